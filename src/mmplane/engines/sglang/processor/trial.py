"""The check before the sidecar makes pictures: SGLang's processor takes two requests both ways; all must be equal.

It compares what goes to the ranks: tokens, offsets, features, grids. If a checkpoint, an option, or a version of
SGLang, transformers or Pillow makes a difference, it is detected here and never by a wrong answer.
"""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from sglang.srt.managers.io_struct import GenerateReqInput

from mmplane.engines.sglang.made import made_of
from mmplane.engines.sglang.processor.maker import Maker

BITS = "the sidecar's features differ from SGLang's own"

SIZES = ((97, 61), (233, 180), (320, 200))
"""Width and height in pixels of the pictures: JPEG, PNG and a grey PNG."""


def difference(processor: Any, maker: Maker) -> str | None:
    """Return how the sidecar's features differ from SGLang's own, or None. Runs in a thread, not on a loop."""
    files = [_file(size, at) for at, size in enumerate(SIZES)]
    for request in (files[:1], files):
        theirs, ours = (asyncio.run(_processed(processor, maker, way, request)) for way in ("theirs", "ours"))
        if len(request) == 1 and not all(made_of(item.feature) for item in ours.mm_items):
            return "SGLang's processor for this model does not take features that were made elsewhere"
        if wrong := first_difference(theirs, ours):
            return wrong
    return None


async def _processed(processor: Any, maker: Maker, way: Any, files: list[bytes]) -> Any:
    text = "".join(processor.mm_tokens.image_token for _ in files)
    request = GenerateReqInput(text=text, image_data=list(files), rid="mmplane-trial")
    maker.try_out(way)
    try:
        return await processor.process_mm_data_async(
            image_data=list(files), audio_data=None, input_text=text, request_obj=request, max_req_input_len=None
        )
    finally:
        maker.try_out(None)


def first_difference(theirs: Any, ours: Any) -> str | None:
    """The parts of SGLang's result for one request that are compared."""
    if list(theirs.input_ids) != list(ours.input_ids):
        return "the sidecar's pictures have other tokens than SGLang's"
    if len(theirs.mm_items) != len(ours.mm_items):
        return "the sidecar's pictures become other items than SGLang's"
    for one, other in zip(theirs.mm_items, ours.mm_items, strict=True):
        if one.offsets != other.offsets or not _same(one.model_specific_data, other.model_specific_data):
            return "what goes beside the features differs"
        if not _same(one.feature, other.feature):
            return BITS
    return None


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and bool(torch.equal(one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(np.all(one == other))


def _file(size: tuple[int, int], at: int) -> bytes:
    noise = np.random.default_rng(at).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise)
    file = BytesIO()
    if at == 0:
        image.save(file, "JPEG", quality=90)
    else:
        (image.convert("L") if at == 2 else image).save(file, "PNG")
    return file.getvalue()
