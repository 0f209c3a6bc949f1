"""Pictures to send: real photographs, and noise that nobody has sent before."""

from __future__ import annotations

import base64
import io
from functools import cache
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image


@cache
def photograph(name: str) -> bytes:
    """scikit-learn's `china` or `flower` (640x427) as JPEG."""
    file = io.BytesIO()
    Image.fromarray(load_sample_image(f"{name}.jpg")).save(file, "JPEG", quality=92)
    return file.getvalue()


def noise(seed: int, width: int = 112, height: int = 84) -> bytes:
    """A PNG of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return png(pixels)


def jpeg(seed: int, width: int, height: int) -> bytes:
    """A JPEG of random pixels: much to decode in few bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=20)
    return file.getvalue()


def png(pixels: np.ndarray) -> bytes:
    """These pixels as PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def part(media: bytes) -> dict[str, Any]:
    """An `image_url` part with a data URI."""
    kind = "png" if media.startswith(b"\x89PNG") else "jpeg"
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{base64.b64encode(media).decode()}"}}


def text(words: str) -> dict[str, Any]:
    """A text part."""
    return {"type": "text", "text": words}
