"""The two backends of transformers' image processors: how each resizes, crops and normalises.

Engines use torchvision's unless told otherwise. Its resize differs from Pillow's by one or two 8-bit levels, and its
normalising by the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mmplane.core.records import BackendName
from mmplane.features.arithmetic.resize import FILTERS, Box, Resize
from mmplane.features.arithmetic.table import Table, pil_table, torch_table


@dataclass(frozen=True)
class Backend:
    """One of them. `table` is (3, 256) float32, of a processor's options."""

    name: BackendName
    table: Callable[[Mapping[str, Any]], Table]

    def serves(self, options: Mapping[str, Any]) -> bool:
        """Whether it resizes with a filter that is built, and gives floats: torchvision leaves bytes as they are."""
        floats = self.name == "pil" or options["do_rescale"] or options["do_normalize"]
        return options["resample"] in FILTERS and bool(floats)

    def resize(self, width: int, height: int, kind: int, box: Box | None = None) -> Resize:
        """To width x height pixels; of the result only `box` is computed."""
        return Resize(width, height, kind, box or Box(0, 0, width, height), as_torch=self.name == "torchvision")

    def crop_start(self, side: int, crop: int) -> int:
        """Where a centred crop of `crop` pixels begins on a side; below 0 so much padding comes first."""
        return (side - crop) // 2 if self.name == "pil" else int((side - crop) / 2)


BACKENDS: Mapping[BackendName, Backend] = {
    "pil": Backend("pil", pil_table),
    "torchvision": Backend("torchvision", torch_table),
}
