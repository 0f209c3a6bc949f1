"""Materialise: one item's encoded bytes to the arrays that the model takes, wherever that is done.

A worker does it into the arena; a delivery that materialises elsewhere (on a rank, in the front end's threads) does it
into memory of its own. The code is the same, so the features are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from mmplane.core.records import Layout
from mmplane.features.processor import ImageProcessor, views
from mmplane.media.image import decode


@dataclass(frozen=True)
class Made:
    """What it took. `bytes_written` counts the bytes of the arrays that were filled."""

    decode_ms: float
    transform_ms: float
    bytes_written: int


def materialise(processor: ImageProcessor, media: memoryview | bytes, layout: Layout, out: memoryview) -> Made:
    """Decode `media` and write its features into `out`, a writable buffer of `layout.length_bytes`.

    Raises RequestError when the media cannot be decoded.
    """
    started_s = time.perf_counter()
    pixels = decode(media)
    decoded_s = time.perf_counter()
    arrays = views(layout.tensors, out)
    processor.write(pixels, arrays)
    ended_s = time.perf_counter()
    return Made(
        decode_ms=(decoded_s - started_s) * 1000,
        transform_ms=(ended_s - decoded_s) * 1000,
        bytes_written=sum(array.nbytes for array in arrays.values()),
    )
