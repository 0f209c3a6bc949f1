"""Whether a fast processor gives what the reference gives: layout, companions and every bit of the features."""

from __future__ import annotations

import numpy as np

from mmplane.core.errors import RequestError
from mmplane.features.encodings import Array
from mmplane.features.processor import ImageProcessor, Pixels, views

PARITY_SIZES = ((113, 64), (61, 150), (200, 96), (40, 31), (310, 430))
"""(width, height) in pixels of the images tried: scaled down and up, and for most models in both orders of passes."""


def agree(fast: ImageProcessor, reference: ImageProcessor) -> bool:
    """Whether two processors give the same on noise of the sizes of `PARITY_SIZES`."""
    noise = np.random.default_rng(0)
    return all(
        same(fast, reference, noise.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in PARITY_SIZES
    )


def same(fast: ImageProcessor, reference: ImageProcessor, pixels: Pixels) -> bool:
    """Whether two processors give the same layout and the same bits for one image; False if one refuses it."""
    height, width, _ = pixels.shape
    try:
        if fast.layout(width, height) != reference.layout(width, height):
            return False
        one, other = materialise(fast, pixels), materialise(reference, pixels)
    except RequestError:
        return False
    return all(one[name].tobytes() == other[name].tobytes() for name in other)


def difference(fast: ImageProcessor, reference: ImageProcessor, pixels: Pixels) -> float:
    """The largest absolute difference of any value of two processors' arrays; infinity if a shape differs."""
    one, other = materialise(fast, pixels), materialise(reference, pixels)
    if {name: array.shape for name, array in one.items()} != {name: array.shape for name, array in other.items()}:
        return float("inf")
    return max(float(np.abs(np.subtract(one[name], other[name], dtype=np.float64)).max()) for name in other)


def materialise(processor: ImageProcessor, pixels: Pixels) -> dict[str, Array]:
    """The arrays of one image, in memory of their own."""
    layout = processor.layout(pixels.shape[1], pixels.shape[0])
    arrays = views(layout.tensors, memoryview(bytearray(layout.length_bytes)))
    processor.write(pixels, arrays)
    return arrays
