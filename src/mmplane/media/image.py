"""Turns encoded image bytes into RGB pixels: the single normaliser that all routes use.

The result is what a browser would show, as 8-bit RGB: the first frame, turned as EXIF says, transparency over white,
16-bit grey scaled (not clipped). Another decode profile returns what an engine's own loader would
(`mmplane.media.profiles`). With every profile a plain RGB JPEG or PNG gives exactly the pixels of
`PIL.Image.open(...).convert("RGB")`.

`probe` and `decode` agree on the size, because both take size and orientation from one header reader
(`mmplane.media.header`), and `decode` refuses a file in which Pillow sees another size. Every error becomes `bad_media`
with a fixed text, because decoders raise almost anything, and their texts contain pieces of the payload. Call `decode`
only where a native decoder may crash without harm.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from mmplane.core.errors import RequestError, bad_media
from mmplane.features.contract.image import Pixels
from mmplane.media import plain_png
from mmplane.media.header import FOREIGN, ImageHeader, is_arithmetic, jpeg_scans, read_header
from mmplane.media.opening import opened
from mmplane.media.png import pixels_alone, says_no_more
from mmplane.media.profiles import MMPLANE, Profile

try:  # 2.5 times as fast as Pillow on plain JPEG, with the same pixels
    from simplejpeg import decode_jpeg
except ImportError:  # pragma: no cover
    decode_jpeg = None

try:  # libpng, for a PNG whose pixels are plain and the rest is not: 1.5 times as fast as Pillow, with the same pixels
    from imagecodecs import png_decode
except ImportError:  # pragma: no cover
    png_decode = None  # type: ignore[assignment]


@dataclass(frozen=True)
class ImageLimits:
    """Limits of one image: pixels, aspect ratio, and a JPEG's scans. Pillow itself refuses more than 178,956,970
    pixels.

    The ratio protects processors that scale the shorter side to a fixed length. Encoders write some ten scans.
    """

    pixels_max: int = 64_000_000
    aspect_max: int = 200
    scans_max: int = 64


DEFAULT_LIMITS = ImageLimits()
JPEG_PIXELS_OF_BYTE_MAX = 512
"""A JPEG has at least one bit for each block of 64 pixels. With fewer, most of it is missing, and decoders would fill
it with grey at the cost of the whole image.
"""


def probe(
    media: bytes | memoryview, limits: ImageLimits = DEFAULT_LIMITS, *, profile: Profile = MMPLANE
) -> ImageHeader:
    """Read an image's size and format from its header, in microseconds.

    Raises RequestError: 400, or `unprofiled` if only the engine itself knows how it loads such a file.
    """
    with profile.own_way("format"):
        header = profile.seen(read_header(media))
        if header.format in FOREIGN and profile is not MMPLANE:
            raise bad_media(f"Pillow alone opens no {header.format}")
    with profile.own_way("limit"):
        _check(header, len(media), limits)
    return header


def _check(header: ImageHeader, length_bytes: int, limits: ImageLimits) -> None:
    width, height = header.width, header.height
    if width < 1 or height < 1:
        raise bad_media("the image has no pixels")
    if width * height > limits.pixels_max:
        raise bad_media("the image has too many pixels")
    if max(width, height) > limits.aspect_max * min(width, height):
        raise bad_media("the image is too long for its width")
    if header.format == "JPEG" and width * height > JPEG_PIXELS_OF_BYTE_MAX * length_bytes:
        raise bad_media("the image is truncated")


def decoded_bytes(header: ImageHeader, *, profile: Profile = MMPLANE) -> int:
    """The maximum memory of `decode`: the pixels, and for everything but JPEG Pillow's intermediate images.

    A JPEG needs 3 bytes per pixel, twice that if it is turned. Anything else may be transparent: the image, a white
    one of its size and both together with 4 bytes per pixel each, then RGB twice. If Pillow turns it, there are two
    more copies; libjxl holds wide numbers.
    """
    other = 26 if profile.turning == "by Pillow" or header.format == "JPEGXL" else 18
    return header.width * header.height * (6 if header.format == "JPEG" else other)


def shrunk(width: int, height: int, side_max: int) -> tuple[int, int]:
    """Return (width, height) in pixels for an image whose longer side is limited to `side_max` (0: no limit)."""
    longer = max(width, height)
    if not side_max or longer <= side_max:
        return width, height
    return max(1, round(width * side_max / longer)), max(1, round(height * side_max / longer))


def decode(
    media: bytes | memoryview, limits: ImageLimits = DEFAULT_LIMITS, *, side_max: int = 0, profile: Profile = MMPLANE
) -> Pixels:
    """Decode an image into (height, width, 3) uint8 RGB, C order, of the size that `probe` returns, or `shrunk` from
    it.

    Raises RequestError: 400 if it is truncated, damaged, not of an allowed format, or beyond the limits. With an
    engine's profile, 400 means that the engine cannot decode it either, and every other refusal is `unprofiled`.
    """
    header = probe(media, limits, profile=profile)
    with profile.own_way("limit"):
        if header.format == "JPEG" and jpeg_scans(media, limits.scans_max + 1) > limits.scans_max:
            raise bad_media("the image has too many scans")
    if profile is MMPLANE:
        media = _plainer(media, header)
    with _opened(media, header, profile) as image, _as_bad_media():
        pixels, turn = _decode_plain(media, image, header, profile), _TURNS.get(header.orientation)
        if pixels is None:
            pixels = np.asarray(profile.rgb(image))
            turn = None if profile.turning == "by Pillow" else turn
    if turn is not None:
        pixels = _turned(pixels, turn)
    with profile.own_way("header"):
        _check_size((pixels.shape[1], pixels.shape[0]), (header.width, header.height))
    size = shrunk(header.width, header.height, side_max)
    if size != (header.width, header.height):
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    return pixels


def _plainer(media: bytes | memoryview, header: ImageHeader) -> bytes | memoryview:
    """Return the part of a file that is decoded: of a PNG only the pixels, of a JPEG no missing scans.

    With an engine's profile the file is used as it is, because the engine does so.
    """
    if header.format == "JPEG" and decode_jpeg is not None and is_arithmetic(media):
        try:
            decode_jpeg(media, "GRAY")
        except ValueError:
            raise bad_media("the image cannot be decoded: it is a JPEG with arithmetic coding, and damaged") from None
    return pixels_alone(media) if header.format == "PNG" else media


@contextmanager
def _opened(media: bytes | memoryview, header: ImageHeader, profile: Profile) -> Iterator[Image.Image]:
    with profile.own_way("format"), _as_bad_media():
        image = opened(media, header.format)
    with image:
        with profile.own_way("header"):
            _check_size(image.size, header.stored)
        yield image


def _turned(pixels: Pixels, turn: Callable[[Any], Any]) -> Pixels:
    """Copy pixel by pixel instead of byte by byte, which takes a third of the time."""
    whole = np.ascontiguousarray(turn(pixels.view("V3")[..., 0]))
    return whole.view(np.uint8).reshape(*whole.shape, 3)


def _check_size(found: tuple[int, int], promised: tuple[int, int]) -> None:
    if found != promised:
        raise bad_media("the image's header contradicts itself")


def _decode_plain(
    media: bytes | memoryview, image: Image.Image, header: ImageHeader, profile: Profile
) -> Pixels | None:
    """Decode a plain JPEG or PNG, without turning it; None if it is neither, or if Pillow has to decide."""
    if header.format == "PNG" and profile.turning == "by Pillow" and not says_no_more(media):
        return None
    if header.format not in ("JPEG", "PNG") or not profile.trusts(header, image):
        return None
    if header.format == "JPEG":
        return _decode_plain_jpeg(media, image)
    return _decode_plain_png(media, image, profile)


def _decode_plain_jpeg(media: bytes | memoryview, image: Image.Image) -> Pixels | None:
    """Decode a YCbCr JPEG; None if it is not one, or if Pillow has to decide."""
    if decode_jpeg is None or image.format not in ("JPEG", "MPO") or image.mode != "RGB":
        return None
    if image.info.get("adobe_transform", 1) != 1:
        return None
    try:
        pixels: Pixels = decode_jpeg(media, "RGB")
    except ValueError:
        return None
    return pixels if pixels.shape[:2] == (image.height, image.width) else None


def _decode_plain_png(media: bytes | memoryview, image: Image.Image, profile: Profile) -> Pixels | None:
    """Decode a PNG of 8-bit grey, RGB or RGBA; None if it is not one, or if Pillow has to decide."""
    if image.mode not in plain_png.CHANNELS or media[24] != 8 or "transparency" in image.info or not _is_whole(image):
        return None
    pixels = plain_png.decode(media, image, strict=profile is not MMPLANE)
    if pixels is None and image.mode != "RGBA":
        pixels = _decode_by_libpng(media, image)
    if pixels is None or pixels.shape[2] == 3:
        return pixels
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    opaque = (pixels.view("<u4") >= 0xFF << 24).all()  # then every profile shows its colours
    decoded = Image.fromarray(pixels)
    return np.asarray(decoded.convert("RGB") if opaque else profile.rules["transparent"](decoded))


def _is_whole(image: Any) -> bool:
    """Whether Pillow would decode all of a PNG: the first frame of an APNG may be a part of the picture."""
    return [tile.extents for tile in image.tile] == [(0, 0, *image.size)]


def _decode_by_libpng(media: bytes | memoryview, image: Image.Image) -> Pixels | None:
    try:
        pixels: Pixels = png_decode(media)  # type: ignore[arg-type]  # any buffer will do
    except Exception:  # noqa: BLE001 - it is missing, or Pillow decides what is damaged
        return None
    return np.atleast_3d(pixels) if pixels.shape[:2] == (image.height, image.width) else None


@contextmanager
def _as_bad_media() -> Iterator[None]:
    """Replace every exception of a decoder by one fixed text; its warnings are about the client's file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (RequestError, MemoryError):  # memory was reserved by the header: too little is the server's fault
        raise
    except Exception:  # noqa: BLE001 - decoders raise almost anything
        raise bad_media("the image cannot be decoded") from None


_TURNS: dict[int, Callable[[Any], Any]] = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.T,
    6: lambda p: p[::-1].T,
    7: lambda p: p[::-1, ::-1].T,
    8: lambda p: p.T[::-1],
}
"""Functions that undo each EXIF orientation (JEITA CP-3451, tag 0x0112) of a (height, width) array, like
`PIL.ImageOps.exif_transpose`.
"""
