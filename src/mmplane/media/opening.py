"""What opens a picture: Pillow, and libheif (pi_heif) and libjxl (imagecodecs) for what Pillow does not know.

Neither is registered with Pillow: a process may share that with an engine, which would open other files than before.
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

Image.init()  # import the decoders now, not in a request


def opened(media: bytes | memoryview, kind: str) -> Image.Image:
    """The image, of which Pillow decodes no pixel yet. Raises what decoders raise, and RequestError (400)."""
    if kind in FOREIGN:
        return _OPENERS[kind](media)
    return Image.open(BytesIO(media), formats=[kind])


def _heif(media: bytes | memoryview) -> Image.Image:
    """The primary picture, which libheif crops and turns. Of 10 and 12 bits it gives 8."""
    image: Image.Image = pi_heif.HeifImageFile(BytesIO(media))
    return image


def _jpegxl(media: bytes | memoryview) -> Image.Image:
    """The first frame, as libjxl turns it, of 8 bits, or 16 where it is grey."""
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
    """Numbers of so many bits to those of another number, rounded to the nearest. In place of a copy, a table."""
    values = np.arange(2**bits, dtype=np.uint64)
    table = (values * (2 * (2**wanted - 1)) + (2**bits - 1)) // (2 * (2**bits - 1))
    scaled: npt.NDArray[Any] = table.astype(np.uint16 if wanted > 8 else np.uint8)[pixels]
    return scaled


def _divided(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Colours that alpha, the last channel, was multiplied into, without it."""
    alpha = pixels[..., -1:].astype(np.uint16)
    colours = (pixels[..., :-1].astype(np.uint16) * 255 + alpha // 2) // np.maximum(alpha, 1)
    return np.concatenate([np.minimum(colours, 255).astype(np.uint8), pixels[..., -1:]], axis=-1)


_OPENERS: Mapping[str, Callable[[bytes | memoryview], Image.Image]] = {"HEIF": _heif, "JPEGXL": _jpegxl}
