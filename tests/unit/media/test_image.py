from __future__ import annotations

import io
import zlib
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from clips import recorded
from mmplane.core.errors import RequestError
from mmplane.media.header import FORMATS, jpeg_scans
from mmplane.media.image import ImageLimits, decode, probe
from mmplane.media.png import pixels_alone
from odd_pictures import XMP_6, bmp_with_alpha, chunk, exif_chunk, long_text, png_with, wrong_checksum

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


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize(
    "said", [exif_chunk(6), chunk(b"iTXt", XMP_6), exif_chunk(6) + exif_chunk(3), chunk(b"iTXt", XMP_6) + exif_chunk(6)]
)
def test_a_png_is_turned_wherever_that_stands(place: str, said: bytes) -> None:
    assert_decodes_to(png_with(PHOTO, **{place: said}), PHOTO.transpose(Image.Transpose.ROTATE_270))


def test_exif_comes_before_xmp() -> None:
    assert_decodes_to(png_with(PHOTO, chunk(b"iTXt", XMP_6) + exif_chunk(1)), PHOTO)


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize(
    "unused", [long_text(), wrong_checksum(), chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(9_000_000)))]
)
def test_what_a_png_says_beside_its_pixels_keeps_nobody_from_them(place: str, unused: bytes) -> None:
    media = png_with(PHOTO, **{place: unused})
    assert_decodes_to(media, PHOTO)
    assert pixels_alone(media) == pixels_alone(encode(PHOTO, "PNG"))


def test_a_png_without_anything_beside_its_pixels_is_not_copied() -> None:
    media = encode(PHOTO, "PNG")
    assert pixels_alone(media) is media


def test_a_bmp_whose_alpha_is_nothing_is_opaque() -> None:
    assert_decodes_to(bmp_with_alpha(PHOTO, 0), PHOTO)
    assert_decodes_to(bmp_with_alpha(PHOTO, 255), PHOTO)
    half = decode(bmp_with_alpha(PHOTO, 128)).astype(int)
    np.testing.assert_allclose(half, (np.asarray(PHOTO).astype(int) + 255) / 2, atol=1.5)


def test_a_jpeg_with_arithmetic_coding_is_decoded_or_refused_by_name() -> None:
    media = recorded("arithmetic.jpg")
    assert_decodes_to(media, Image.open(io.BytesIO(media)).convert("RGB"))
    mislabelled = encode(PHOTO, "JPEG").replace(b"\xff\xc0", b"\xff\xc9", 1)
    for broken in (mislabelled, media[:-500] + bytes(498) + media[-2:]):
        assert "arithmetic coding" in assert_refused(broken)


@pytest.mark.parametrize("mode", ["L", "1", "P"])
@pytest.mark.parametrize("image_format", ["PNG", "GIF", "TIFF", "BMP"])
def test_opaque_grey_and_palette(mode: str, image_format: str) -> None:
    image = PHOTO.convert(mode)
    assert_decodes_to(encode(image, image_format), image.convert("RGB"))


PNG_TYPES = [
    *((0, depth) for depth in (1, 2, 4, 8, 16)),  # grey
    *((2, depth) for depth in (8, 16)),  # RGB
    *((3, depth) for depth in (1, 2, 4, 8)),  # palette
    *((4, depth) for depth in (8, 16)),  # grey and alpha
    *((6, depth) for depth in (8, 16)),  # RGB and alpha
]
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@pytest.mark.parametrize(("colour", "depth"), PNG_TYPES)
def test_every_type_of_png(colour: int, depth: int) -> None:
    """Against the samples themselves: what Pillow makes of 16 bits may be one off, what it makes of 8 may not."""
    width, height, top = 32, 16, 2**depth - 1
    samples = np.random.default_rng(depth).integers(0, top + 1, (height, width, CHANNELS[colour]))
    palette = np.random.default_rng(9).integers(0, 256, (top + 1, 3) if colour == 3 else (1, 3), np.uint8)
    if depth < 8:
        bits = ((samples[..., 0, None] >> np.arange(depth)[::-1]) & 1).reshape(height, -1).astype(np.uint8)
        rows = np.packbits(bits, axis=1)
    else:
        rows = samples.astype(f">u{depth // 8}").reshape(height, -1).view(np.uint8)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, colour, 0, 0, 0])
    media = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    media += (chunk(b"PLTE", palette.tobytes()) if colour == 3 else b"") + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    if colour == 3:
        seen = palette[samples[..., 0]].astype(np.float64)
    else:
        values = samples * (255 / top)
        seen = np.repeat(values[..., :1], 3, axis=2) if colour in (0, 4) else values[..., :3]
        if colour in (4, 6):
            alpha = values[..., -1:] / 255
            seen = seen * alpha + 255 * (1 - alpha)
    exact = depth <= 8 and colour not in (4, 6)
    np.testing.assert_allclose(decode(media), seen, atol=0.5 if exact else 2.0)


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


def with_checksums(png: bytes) -> bytes:
    """The same chunks with their own checksums, as far as they go."""
    at, chunks = 8, [png[:8]]
    while at + 8 <= len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        body = png[at + 4 : at + 8 + length]
        chunks.append(png[at : at + 4] + body + zlib.crc32(body).to_bytes(4, "big"))
        at += 12 + length
    return b"".join(chunks)


def test_a_damaged_png_is_what_pillow_takes_it_for() -> None:
    """The faster decoder may see no more, and no less, in a file than Pillow does."""
    plain = encode(PHOTO.resize((40, 30)), "PNG")
    random = Random(0)
    outcomes = set()
    for _ in range(400):
        media = bytearray(plain)
        for _ in range(random.choice((1, 2, 5))):
            media[random.randrange(33, len(media))] = random.randrange(256)
        damaged = with_checksums(bytes(media)) if random.random() < 0.8 else bytes(media)
        try:
            want = np.asarray(Image.open(io.BytesIO(damaged)).convert("RGB"))
        except Exception:
            want = None
        try:
            found = decode(damaged)
        except RequestError:
            found = None
        assert (want is None) == (found is None)
        if want is not None:
            np.testing.assert_array_equal(found, want)
        outcomes.add(want is None)
    assert outcomes == {True, False}


@pytest.mark.parametrize("media", [b"", b"\x00" * 64, b"<svg/>", b"GIF89a", b"\xff\xd8\xff\xe0", b"P6 1 1 255 abc"])
def test_what_is_no_image_is_refused(media: bytes) -> None:
    assert assert_refused(media) == (
        "the image is damaged, or its format is not supported: "
        "send JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC or JPEG XL"
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


def png_header(width: int, height: int) -> bytes:
    return chunk(b"IHDR", width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00")


def test_an_image_without_pixels_is_refused() -> None:
    assert assert_refused(b"\x89PNG\r\n\x1a\n" + png_header(0, 40) + chunk(b"IEND", b"")) == "the image has no pixels"


def test_a_size_that_pillow_sees_otherwise_is_refused() -> None:
    """The layout was promised by the first header; Pillow believes the last."""
    plain = encode(PHOTO, "PNG")
    media = plain[:8] + png_header(40, 20) + plain[8:]
    with Image.open(io.BytesIO(media)) as image:
        assert (image.size, probe(media).width) == (PHOTO.size, 40)
        image.load()
    assert assert_refused(media) == "the image's header contradicts itself"


def with_scans(more: int) -> bytes:
    """A progressive JPEG whose last scan, with its tables, comes so many times more, and what cameras put behind it."""
    media = encode(PHOTO, "JPEG", progressive=True, exif=encode(PHOTO.resize((8, 8)), "JPEG"))
    tables = media.rindex(b"\xff\xc4")
    return media[:-2] + media[tables:-2] * more + media[-2:] + b"\xff\xda" * 1000


def test_a_jpeg_that_cannot_hold_its_pixels_is_refused() -> None:
    """Flat ones, of either kind, are the smallest that encoders make."""
    for options in ({}, {"progressive": True}, {"optimize": True}, {"progressive": True, "quality": 1}):
        for mode in ("L", "RGB"):
            flat = encode(Image.new(mode, (3000, 3000), "grey"), "JPEG", **options)
            assert probe(flat).width == 3000
            size = bytes([11, 184, 11, 184])
            assert size in flat
            claims = flat.replace(size, bytes([31, 63, 31, 63]), 1)[: len(flat) // 8]
            assert assert_refused(claims) == "the image is truncated"


def test_a_jpeg_of_many_scans_is_refused() -> None:
    """Each is a few bytes long, and a pass over all pixels."""
    usual = jpeg_scans(with_scans(0), 1000)
    assert 5 < usual < 15
    assert jpeg_scans(with_scans(7), 1000) == usual + 7
    assert jpeg_scans(with_scans(300), 100) == 100
    most = ImageLimits().scans_max
    assert decode(with_scans(most - usual)).shape == (PHOTO.height, PHOTO.width, 3)
    assert assert_refused(with_scans(most - usual + 1)) == "the image has too many scans"


def test_scans_of_a_sequential_jpeg_are_counted_if_the_first_has_not_all_components() -> None:
    """Otherwise decoders refuse the second one, so it costs nothing."""
    media = encode(PHOTO, "JPEG")
    at = media.index(b"\xff\xda")
    many = media[:at] + media[at:-2] * 100 + media[-2:]
    assert jpeg_scans(many, 1000) == 1
    assert assert_refused(many) == "the image cannot be decoded"
    assert jpeg_scans(many[: at + 4] + b"\x01" + many[at + 5 :], 1000) == 100
