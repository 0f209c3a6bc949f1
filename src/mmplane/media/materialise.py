"""Materialise: one item's encoded bytes to the arrays that the model takes, wherever that is done.

A worker does it into the arena; a delivery that materialises elsewhere (on a rank, in the front end's threads) does it
into memory of its own. The code is the same, so the features are. Bytes in, buffer out: nothing else is touched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mmplane.core.records import Modality, Recipe
from mmplane.features.choice import Processors
from mmplane.features.processor import Arrays, views
from mmplane.media import image

Media = memoryview | bytes


@dataclass(frozen=True)
class Made:
    """What it took. `bytes_written` counts the bytes that were written into the buffer, by who wrote them."""

    decode_ms: float
    transform_ms: float
    bytes_written: int


def materialise(processors: Processors, media: Media, recipe: Recipe, out: memoryview) -> Made:
    """Decode `media` and write its features into `out`, a writable buffer of `recipe.layout.length_bytes`.

    Raises RequestError when the media cannot be decoded, or when the model takes none of its modality.
    """
    started_s = time.perf_counter()
    arrays = views(recipe.layout.tensors, out)
    decode_s, written_bytes = _MAKERS[recipe.modality](processors, media, recipe, arrays)
    whole_s = time.perf_counter() - started_s
    return Made(decode_s * 1000, (whole_s - decode_s) * 1000, written_bytes)


def _make_image(processors: Processors, media: Media, recipe: Recipe, out: Arrays) -> tuple[float, int]:
    processor = processors.for_images
    started_s = time.perf_counter()
    pixels = image.decode(media, side_max=recipe.side_max)
    decode_s = time.perf_counter() - started_s
    return decode_s, processor.write(pixels, out)


_MAKERS: Mapping[Modality, Callable[[Processors, Media, Recipe, Arrays], tuple[float, int]]] = {"image": _make_image}
"""What makes each modality's features: (seconds of decoding, bytes written)."""
