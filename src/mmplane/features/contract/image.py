"""The contract of an image processor: a layout from a size, and features from pixels."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mmplane.core.records import Layout
from mmplane.features.contract.arrays import Arrays
from mmplane.features.contract.processor import Processor

FEATURES = "pixel_values"
"""transformers' name of the array that holds an image's features; it comes first in a layout."""

Pixels = npt.NDArray[np.uint8]
"""One decoded image: (height, width, 3), RGB, C order; may be read-only."""


class ImageProcessor(Processor):
    """A processor of images."""

    layout_is_cheap: ClassVar[bool] = False
    """Whether `layout` takes microseconds, so that an event loop may call it. Otherwise it may take milliseconds."""

    @abstractmethod
    def layout(self, width: int, height: int) -> Layout:
        """Return the layout of an image of this size in pixels (after EXIF orientation).

        It depends only on the size. Raises RequestError (400) if the model cannot take such a size.
        """

    @abstractmethod
    def write(self, pixels: Pixels, out: Arrays) -> int:
        """Fill `out` (one writable array per tensor of `layout`, by name, in the slot) from a decoded image.

        Returns how many bytes were written, counted where they were written. The last write of the transform is the
        only write of those bytes (invariant 2).
        """
