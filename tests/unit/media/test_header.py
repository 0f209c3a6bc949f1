"""Headers of hostile files: the size that Pillow sees or a refusal, in a bounded number of steps."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace

import pytest
from hypothesis import given, strategies
from PIL import Image

from mmplane.core.errors import RequestError
from mmplane.media import boxes
from mmplane.media import header as header_module
from mmplane.media.header import FORMATS, ImageHeader, is_rgb, read_header
from mmplane.media.image import decode, probe

PICTURE = Image.linear_gradient("L").resize((37, 21)).convert("RGB")


def encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


GOOD: dict[str, bytes] = {
    "jpeg": encode(PICTURE, "JPEG"),
    "jpeg, grey": encode(PICTURE.convert("L"), "JPEG"),
    "jpeg, padded markers": encode(PICTURE, "JPEG").replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1),
    "png": encode(PICTURE, "PNG"),
    "png, 1 bit": encode(PICTURE.convert("1"), "PNG"),
    "gif": encode(PICTURE.convert("P"), "GIF"),
    "gif, commented": encode(PICTURE.convert("P"), "GIF", comment=b"x" * 1000),
    "gif, animated": encode(
        PICTURE.convert("P"), "GIF", save_all=True, append_images=[PICTURE.transpose(Image.Transpose.ROTATE_180)]
    ),
    "webp, lossy": encode(PICTURE, "WEBP"),
    "webp, lossless": encode(PICTURE, "WEBP", lossless=True),
    "webp, transparent": encode(Image.merge("RGBA", (*PICTURE.split(), PICTURE.split()[0])), "WEBP"),
    "webp, animated": encode(PICTURE, "WEBP", save_all=True, append_images=[PICTURE.point(lambda v: 255 - v)]),
    "avif": encode(PICTURE, "AVIF"),
    "avif, transparent": encode(PICTURE.convert("RGBA"), "AVIF"),
    "tiff": encode(PICTURE, "TIFF"),
    "tiff, compressed": encode(PICTURE, "TIFF", compression="tiff_lzw"),
    "tiff, big": encode(PICTURE, "TIFF", big_tiff=True),
    "bmp": encode(PICTURE, "BMP"),
    "bmp, 1 bit": encode(PICTURE.convert("1"), "BMP"),
}


@pytest.mark.parametrize("name", GOOD)
def test_the_size_that_pillow_sees(name: str) -> None:
    header = read_header(GOOD[name])
    with Image.open(io.BytesIO(GOOD[name])) as image:
        assert (header.width, header.height) == image.size == (37, 21)
        assert header.format == image.format


MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16")
KINDS = {
    **{f"{name} of {mode}": (mode, name, {}) for name in FORMATS for mode in MODES},
    "lossless WEBP of RGB": ("RGB", "WEBP", {"lossless": True}),
    "lossless WEBP of RGBA": ("RGBA", "WEBP", {"lossless": True}),
    "WEBP with a profile": ("RGB", "WEBP", {"icc_profile": b"x" * 100}),
    "progressive JPEG": ("RGB", "JPEG", {"progressive": True}),
    "TIFF in a JPEG's way": ("RGB", "TIFF", {"compression": "jpeg"}),
    "big TIFF": ("RGBA", "TIFF", {"big_tiff": True}),
}


def written() -> Iterator[tuple[str, bytes]]:
    """Of these kinds, the files that Pillow writes."""
    for kind, (mode, name, options) in KINDS.items():
        image = PICTURE.convert(mode)
        if mode in ("LA", "RGBA"):
            image.putalpha(PICTURE.convert("L"))
        with suppress(OSError, KeyError, ValueError):
            yield kind, encode(image, name, **options)


WRITTEN = dict(written())


@pytest.mark.parametrize("kind", WRITTEN)
def test_whether_it_is_rgb(kind: str) -> None:
    media = WRITTEN[kind]
    with Image.open(io.BytesIO(media)) as opened:
        assert is_rgb(media) == (opened.mode == "RGB"), opened.mode


def test_each_format_was_tried_with_rgb_and_with_something_else() -> None:
    tried = {(read_header(media).format, is_rgb(media)) for media in WRITTEN.values()}
    assert tried == {(name, rgb) for name in FORMATS for rgb in (True, False)} - {("GIF", True)}


def test_what_is_no_image_is_not_rgb() -> None:
    for media in (b"", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", *(media[:20] for media in GOOD.values())):
        assert not is_rgb(media)


def test_a_frame_that_leaves_the_screen_of_a_gif() -> None:
    media = bytearray(GOOD["gif"])
    media[6:10] = struct.pack("<HH", 5, 40)
    header = read_header(media)
    assert (header.width, header.height) == Image.open(io.BytesIO(media)).size == (37, 40)


def test_a_bmp_that_is_upside_down() -> None:
    media = bytearray(GOOD["bmp"])
    media[22:26] = struct.pack("<i", -21)
    assert decode(bytes(media)).shape == (21, 37, 3)


LONG: dict[str, bytes] = {
    "jpeg": b"\xff\xd8" + b"\xff\xe2\x00\x02" * 1_000_000 + GOOD["jpeg"][2:],
    "jpeg, junk": b"\xff\xd8\xff" + b"\x00" * 4_000_000 + GOOD["jpeg"][2:],
    "png": GOOD["png"][:33] + b"\0\0\0\0abCd\0\0\0\0" * 400_000 + GOOD["png"][33:],
    "gif": GOOD["gif"][:13] + b"\x21\xfe" + b"\x01a" * 1_000_000,
    "webp": GOOD["webp, transparent"][:12] + b"abcd\0\0\0\0" * 500_000,
    "avif": b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + b"\0\0\0\x08free" * 500_000,
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + b"\0\0\0\x08free" * 500_000,
    "jpegxl": b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0\0\0\x08free" * 500_000,
    "tiff": b"II*\0\x08\0\0\0\xff\xff" + b"\1\1\3\0\1\0\0\0\1\0\0\0" * 65535,
}


@pytest.mark.parametrize("name", LONG)
def test_nothing_loops_longer_than_its_limit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: turns of loops, and numbers that are read."""
    reads = turns = 0

    def counted(*bounds: int) -> Iterator[int]:
        nonlocal turns
        for turn in range(*bounds):
            turns += 1
            yield turn

    def count(*arguments: object) -> tuple[object, ...]:
        nonlocal reads
        reads += 1
        return struct.unpack_from(*arguments)  # type: ignore[arg-type]

    for module in (header_module, boxes):
        monkeypatch.setattr(module, "struct", SimpleNamespace(unpack_from=count, error=struct.error))
        monkeypatch.setattr(module, "range", counted, raising=False)
    with pytest.raises(RequestError):
        read_header(LONG[name])
    assert reads <= 2 * header_module.STEPS_MAX + 10
    assert 0 < turns <= header_module.STEPS_MAX + 50


FORGED = {
    "png": GOOD["png"][:16] + struct.pack(">II", 40, 20) + GOOD["png"][24:],
    "jpeg": GOOD["jpeg"][:2] + b"\xff\xc0\0\x0b\x08\0\x40\0\x40\x01\0\0\0" + GOOD["jpeg"][2:],
}


@pytest.mark.parametrize("name", FORGED)
def test_a_header_that_lies_is_found_out(name: str) -> None:
    probe(FORGED[name])
    with pytest.raises(RequestError) as refused:
        decode(FORGED[name])
    assert refused.value.status == 400


@given(
    name=strategies.sampled_from(sorted(GOOD)),
    edits=strategies.lists(strategies.tuples(strategies.integers(0, 400), strategies.binary(min_size=1, max_size=4))),
    length=strategies.integers(0, 3000),
)
def test_accepted_or_refused_and_nothing_else(name: str, edits: list[tuple[int, bytes]], length: int) -> None:
    media = bytearray(GOOD[name][:length])
    for at, content in edits:
        media[at : at + len(content)] = content
    header = header_of(bytes(media))
    if header is not None:
        assert min(header.width, header.height) > 0
        assert 1 <= header.orientation <= 8


@given(strategies.binary(max_size=200), strategies.sampled_from([media[:16] for media in GOOD.values()]))
def test_anything_after_a_good_beginning(rest: bytes, beginning: bytes) -> None:
    header_of(beginning + rest)


def header_of(media: bytes) -> ImageHeader | None:
    """None when it is refused; any other exception than a refusal fails the test."""
    try:
        return probe(media)
    except RequestError as refused:
        if refused.status != 400:
            raise
        return None
