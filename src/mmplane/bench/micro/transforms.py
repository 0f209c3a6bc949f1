"""The fast transform compared with transformers' own, on the same pictures in this process: bits and CPU time."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from transformers import AutoImageProcessor

from mmplane.features.reference.parity import materialise
from mmplane.features.select import image_processor as chosen
from mmplane.media.image import decode

ROUNDS = 3


def transforms(media: Sequence[bytes], model_folder: str) -> dict[str, Any]:
    """CPU milliseconds (medians) of decode and transform in both ways, and whether their bits agree."""
    ours = chosen(model_folder)
    ours.warm()
    theirs = AutoImageProcessor.from_pretrained(model_folder, backend="pil")
    pixels = [decode(file) for file in media]
    pictures = [Image.open(io.BytesIO(file)).convert("RGB") for file in media]
    fast = [next(iter(materialise(ours, each).values())) for each in pixels]
    slow = [np.asarray(theirs([each], return_tensors="np")["pixel_values"], np.float32) for each in pictures]
    return {
        "class": type(ours).__name__,
        "pictures": len(media),
        "mmplane_decode_ms": _cpu_ms(decode, media),
        "pillow_decode_ms": _cpu_ms(lambda file: Image.open(io.BytesIO(file)).convert("RGB"), media),
        "mmplane_transform_ms": _cpu_ms(lambda each: materialise(ours, each), pixels),
        "transformers_transform_ms": _cpu_ms(lambda each: theirs([each], return_tensors="np"), pictures),
        "same_bits": all(a.tobytes() == b.tobytes() for a, b in zip(fast, slow, strict=True)),
    }


def _cpu_ms(work: Callable[[Any], Any], over: Sequence[Any]) -> float:
    times = []
    for _ in range(ROUNDS):
        for each in over:
            began_s = time.process_time()
            work(each)
            times.append((time.process_time() - began_s) * 1000)
    return median(times)
