"""The contract of a feature processor: decoded media in, the arrays that the model takes out.

`Processor` is what images, clips and sounds share. `ImageProcessor` is here, the others are in `video.py`, `audio.py`.

A processor is swappable: one class, one file, one conformance suite. The generic one (`huggingface.py`) works for every
transformers image processor; a fast one serves a family and must give the same bits. `select.py` chooses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import prod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mmplane.core.records import Layout, Tensor
from mmplane.features.encodings import storage_dtype

ALIGN_BYTES = 64
"""Every array in a slot starts on a cache line."""

FEATURES = "pixel_values"
"""transformers' name of the array that holds an image's features; it comes first in a layout."""

LAYOUTS_MAX = 1024
"""How many sizes a processor remembers the layout of."""

Pixels = npt.NDArray[np.uint8]
"""One decoded image: (height, width, 3), RGB, C order; may be read-only."""

Arrays = Mapping[str, npt.NDArray[np.generic]]


class Processor(ABC):
    """Turns one decoded item into the arrays that the model takes.

    Pure: no I/O, no state between items but caches whose content depends on their key alone. Called by one thread, one
    item at a time.
    """

    @property
    @abstractmethod
    def fingerprint(self) -> bytes:
        """32 bytes over everything that changes the output: class, configuration, backend, library versions."""

    @property
    @abstractmethod
    def placeholder_id(self) -> int | None:
        """The token that stands for one item in a tokenised prompt; `Layout.expansion` replaces it.

        None where items have no place in the prompt.
        """

    @abstractmethod
    def warm(self) -> None:
        """Do all that happens once (compile, load from the cache on disk), so that no request's path does it."""


class ImageProcessor(Processor):
    """A processor of images."""

    layout_is_cheap: ClassVar[bool] = False
    """Whether `layout` takes microseconds, so that an event loop may call it. Else it may take milliseconds."""

    @abstractmethod
    def layout(self, width: int, height: int) -> Layout:
        """The layout of an image of this size in pixels (after EXIF orientation).

        Depends on the size alone. Raises RequestError (400) when the model cannot take such a size.
        """

    @abstractmethod
    def write(self, pixels: Pixels, out: Arrays) -> int:
        """Fill `out` (one writable array per tensor of `layout`, by name, in the slot) from a decoded image.

        Returns how many bytes were written there, counted where they were. The last write of the transform is the only
        write of those bytes (invariant 2).
        """


def pack(tensors: list[tuple[str, str, tuple[int, ...]]], expansion: tuple[tuple[int, int], ...]) -> Layout:
    """Lay (name, dtype, shape) out one after the other, each on an `ALIGN_BYTES` boundary."""
    placed: list[Tensor] = []
    end_bytes = 0
    for name, dtype, shape in tensors:
        offset_bytes = -(-end_bytes // ALIGN_BYTES) * ALIGN_BYTES
        placed.append(Tensor(name, dtype, shape, offset_bytes))
        end_bytes = offset_bytes + prod(shape) * storage_dtype(dtype).itemsize
    return Layout(tuple(placed), expansion, end_bytes)


def write_all(values: Mapping[str, npt.ArrayLike], out: Arrays) -> int:
    """Copy small companions into their arrays. Returns how many bytes were written."""
    for name, value in values.items():
        out[name][...] = value
    return sum(out[name].nbytes for name in values)


def views(layout_tensors: tuple[Tensor, ...], slot: memoryview) -> dict[str, npt.NDArray[np.generic]]:
    """NumPy arrays over a slot's bytes, one per tensor; writable if the memory is. bfloat16 comes as uint16."""
    return {
        t.name: np.ndarray(t.shape, storage_dtype(t.dtype), buffer=slot, offset=t.offset_bytes) for t in layout_tensors
    }
