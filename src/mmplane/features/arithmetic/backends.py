"""The two backends of transformers' image processors: how each resizes, crops and normalises.

Engines use torchvision's by default. Its resize differs from Pillow's by one or two 8-bit levels, and its normalising
in the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mmplane.core.records import BackendName
from mmplane.features.arithmetic.resize import FILTERS, Box, Resize
from mmplane.features.arithmetic.table import Levels, pil_levels, torch_levels


@dataclass(frozen=True)
class Backend:
    """One backend. `levels` is how it normalises, from a processor's options."""

    name: BackendName
    levels: Callable[[Mapping[str, Any]], Levels]

    def serves(self, options: Mapping[str, Any]) -> bool:
        """Whether its filter is supported and it returns floats: torchvision does not normalise bytes."""
        floats = self.name == "pil" or options["do_rescale"] or options["do_normalize"]
        return options["resample"] in FILTERS and bool(floats)

    def resize(self, width: int, height: int, kind: int, box: Box | None = None) -> Resize:
        """Resize to width x height pixels; only `box` of the result is computed."""
        return Resize(width, height, kind, box or Box(0, 0, width, height), as_torch=self.name == "torchvision")

    def crop_start(self, side: int, crop: int) -> int:
        """Where a centred crop of `crop` pixels starts on a side; if negative, the amount of padding before it."""
        return (side - crop) // 2 if self.name == "pil" else int((side - crop) / 2)


BACKENDS: Mapping[BackendName, Backend] = {
    "pil": Backend("pil", pil_levels),
    "torchvision": Backend("torchvision", torch_levels),
}
