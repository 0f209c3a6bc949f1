from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from mmplane.core.errors import RequestError
from mmplane.media.header import FORMATS
from mmplane.media.image import ImageLimits, decode, probe

PHOTO = Image.fromarray(load_sample_images().images[0]).resize((97, 61))
ORIENTATION = 0x0112


def encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def assert_decodes_to(media: bytes, expected: Image.Image) -> None:
    pixels = decode(memoryview(media))
    np.testing.assert_array_equal(pixels, np.asarray(expected), strict=True)
    assert pixels.flags.c_contiguous
    header = probe(media)
    assert (header.height, header.width) == pixels.shape[:2]


@pytest.mark.parametrize("image_format", FORMATS)
def test_plain_rgb_gives_pillows_pixels(image_format: str) -> None:
    media = encode(PHOTO, image_format)
    assert_decodes_to(media, Image.open(io.BytesIO(media)).convert("RGB"))
    assert probe(media).format == image_format


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("size", [(97, 61), (1, 1), (8, 3), (640, 427)])
def test_jpeg_gives_pillows_pixels(subsampling: str, progressive: bool, quality: int, size: tuple[int, int]) -> None:
    media = encode(PHOTO.resize(size), "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
    assert_decodes_to(media, Image.open(io.BytesIO(media)).convert("RGB"))


@pytest.mark.parametrize("keep_rgb", [False, True])
def test_a_photograph_as_jpeg(keep_rgb: bool) -> None:
    for pixels in load_sample_images().images:
        media = encode(Image.fromarray(pixels), "JPEG", quality=90, keep_rgb=keep_rgb)
        assert_decodes_to(media, Image.open(io.BytesIO(media)).convert("RGB"))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_is_undone(image_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    media = encode(PHOTO, image_format, exif=exif)
    with Image.open(io.BytesIO(media)) as stored:
        assert_decodes_to(media, ImageOps.exif_transpose(stored).convert("RGB"))


def test_damaged_exif_is_ignored() -> None:
    plain = encode(PHOTO, "JPEG")
    exif = b"Exif\x00\x00MM\x00*\xff\xff\xff\xff"
    media = plain[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + plain[2:]
    assert_decodes_to(media, Image.open(io.BytesIO(plain)).convert("RGB"))


def test_exif_behind_a_pngs_pixels_is_not_looked_for() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    body = exif.tobytes().removeprefix(b"Exif\x00\x00")
    chunk = b"eXIf" + body
    media = encode(PHOTO, "PNG")
    late = media[:-12] + len(body).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + media[-12:]
    assert_decodes_to(late, PHOTO)


@pytest.mark.parametrize("mode", ["L", "1", "P"])
@pytest.mark.parametrize("image_format", ["PNG", "GIF", "TIFF", "BMP"])
def test_opaque_grey_and_palette(mode: str, image_format: str) -> None:
    image = PHOTO.convert(mode)
    assert_decodes_to(encode(image, image_format), image.convert("RGB"))


def test_cmyk_jpeg() -> None:
    media = encode(PHOTO.convert("CMYK"), "JPEG")
    assert_decodes_to(media, Image.open(io.BytesIO(media)).convert("RGB"))


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_transparency_lies_over_white(image_format: str) -> None:
    alpha = Image.linear_gradient("L").resize(PHOTO.size)
    image = PHOTO.copy()
    image.putalpha(alpha)
    pixels = decode(
        encode(image, image_format, **({"lossless": True, "exact": True} if image_format == "WEBP" else {}))
    )
    share = np.asarray(alpha, np.float64)[..., None] / 255
    expected = np.asarray(PHOTO) * share + 255 * (1 - share)
    assert np.abs(pixels - expected).max() <= 1
    image.putalpha(255)
    np.testing.assert_array_equal(decode(encode(image, "PNG")), np.asarray(PHOTO))


@pytest.mark.parametrize("mode", ["LA", "P", "RGB"])
def test_other_kinds_of_transparency(mode: str) -> None:
    if mode == "LA":
        media = encode(Image.new("LA", (3, 2), (10, 0)), "PNG")
    elif mode == "P":
        media = encode(Image.new("L", (3, 2), 7).convert("P"), "PNG", transparency=7)
    else:
        media = encode(Image.new("RGB", (3, 2), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert_decodes_to(media, Image.new("RGB", (3, 2), "white"))


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(image_format: str) -> None:
    grey = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels = decode(encode(Image.fromarray(grey), image_format))
    expected = np.floor(grey / 257 + 0.5)
    np.testing.assert_array_equal(pixels, np.repeat(expected[..., None], 3, axis=2))


def test_only_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    for image_format in ("GIF", "WEBP", "PNG", "TIFF"):
        media = encode(frames[0], image_format, save_all=True, append_images=frames[1:], **_lossless(image_format))
        assert_decodes_to(media, frames[0])


def _lossless(image_format: str) -> dict[str, bool]:
    return {"lossless": True} if image_format == "WEBP" else {}


def assert_refused(media: bytes, limits: ImageLimits | None = None) -> str:
    with pytest.raises(RequestError) as caught:
        decode(media, limits or ImageLimits())
    assert caught.value.status == 400
    assert caught.value.code == "invalid_media"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value.message


@pytest.mark.parametrize("image_format", [f for f in FORMATS if f != "BMP"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_truncated_media_is_refused(image_format: str, kept: float) -> None:
    media = encode(PHOTO, image_format)
    assert_refused(media[: int(len(media) * kept)])


@pytest.mark.parametrize("media", [b"", b"\x00" * 64, b"<svg/>", b"GIF89a", b"\xff\xd8\xff\xe0", b"P6 1 1 255 abc"])
def test_what_is_no_image_is_refused(media: bytes) -> None:
    assert assert_refused(media) == (
        "the image is of no supported format, or damaged: send JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
    )
    with pytest.raises(RequestError):
        probe(media)


def test_formats_outside_the_list_are_refused() -> None:
    for image_format in ("PPM", "ICO", "TGA", "JPEG2000", "EPS"):
        assert_refused(encode(PHOTO, image_format))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixel_formats_without_a_range_are_refused(mode: str) -> None:
    assert "pixel format" in assert_refused(encode(PHOTO.convert(mode), "TIFF"))


def test_limits_are_enforced_on_the_header() -> None:
    media = encode(Image.new("L", (400, 300)), "PNG")
    assert probe(media, ImageLimits(pixels_max=120_000)).width == 400
    for limits in (ImageLimits(pixels_max=119_999), ImageLimits(aspect_max=1)):
        assert_refused(media, limits)
        with pytest.raises(RequestError):
            probe(media, limits)


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    media = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    assert_refused(media + encode(PHOTO, "PNG")[33:])
