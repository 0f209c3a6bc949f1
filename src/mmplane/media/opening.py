"""Opens pictures: with Pillow, or with libheif (pi_heif) and libjxl (imagecodecs) for formats that Pillow lacks.

Neither is registered with Pillow, because an engine in the same process would then open other files than before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mmplane.core.errors import bad_media
from mmplane.media import jpegxl
from mmplane.media.header import FOREIGN

try:
    import pi_heif
except ImportError:  # pragma: no cover
    pi_heif = None
else:
    pi_heif.options.DECODE_THREADS = 1
    pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False

try:
    from imagecodecs import jpegxl_decode
except ImportError:  # pragma: no cover
    jpegxl_decode = None  # type: ignore[assignment]

Image.init()  # import the decoders now, not during a request


def opened(media: bytes | memoryview, kind: str) -> Image.Image:
    """Open the image without decoding pixels. Raises whatever decoders raise, and RequestError (400)."""
    if kind in FOREIGN:
        return _OPENERS[kind](media)
    return Image.open(BytesIO(media), formats=[kind])


def _heif(media: bytes | memoryview) -> Image.Image:
    """The primary picture, which libheif crops and turns. 10 and 12 bits are reduced to 8."""
    image: Image.Image = pi_heif.HeifImageFile(BytesIO(media))
    return image


def _jpegxl(media: bytes | memoryview) -> Image.Image:
    """The first frame, turned by libjxl, with 8 bits, or 16 if it is grey."""
    facts = jpegxl.facts_of(media)
    if not facts.plain:
        raise bad_media("the image's pixel format is not supported")
    pixels: npt.NDArray[Any] = jpegxl_decode(media, index=0, numthreads=1)  # type: ignore[arg-type]  # as for PNG
    if pixels.dtype == np.uint16:
        pixels = _scaled(pixels, facts.bits, 16 if pixels.ndim == 2 else 8)
    elif facts.bits != 8:
        pixels = _scaled(pixels, facts.bits, 8)
    if facts.premultiplied:
        pixels = _divided(pixels)
    return Image.fromarray(pixels)


def _scaled(pixels: npt.NDArray[Any], bits: int, wanted: int) -> npt.NDArray[Any]:
    """Convert numbers from one number of bits to another, rounded to the nearest, with a table and in place."""
    values = np.arange(2**bits, dtype=np.uint64)
    table = (values * (2 * (2**wanted - 1)) + (2**bits - 1)) // (2 * (2**bits - 1))
    scaled: npt.NDArray[Any] = table.astype(np.uint16 if wanted > 8 else np.uint8)[pixels]
    return scaled


def _divided(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Undo the multiplication of colours by alpha, the last channel."""
    alpha = pixels[..., -1:].astype(np.uint16)
    colours = (pixels[..., :-1].astype(np.uint16) * 255 + alpha // 2) // np.maximum(alpha, 1)
    return np.concatenate([np.minimum(colours, 255).astype(np.uint8), pixels[..., -1:]], axis=-1)


_OPENERS: Mapping[str, Callable[[bytes | memoryview], Image.Image]] = {"HEIF": _heif, "JPEGXL": _jpegxl}
