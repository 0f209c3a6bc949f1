"""Plain PNGs have Pillow's pixels, and whatever is not plain is left to Pillow."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmplane.core.errors import RequestError
from mmplane.media import image as image_module
from mmplane.media import plain_png, png
from mmplane.media.header import read_header
from mmplane.media.image import decode, decoded_bytes
from mmplane.media.profiles import MMPLANE, SGLANG, VLLM, Profile
from mutation import Mutant, check_it_is_killed
from odd_pictures import chunk, filtered, png_of

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
COLOURS = {1: GREY, 3: RGB, 4: RGBA}
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 7, 3), np.uint8)
ROWS = filtered(PIXELS, [4, 3, 2, 1, 0, 4, 4, 1, 2, 3, 0, 4])
STREAM = zlib.compress(ROWS)
SIZE = (7, 12)


def plain(media: bytes) -> np.ndarray | None:
    """What the decoder of plain files makes of it, in both ways."""
    with Image.open(io.BytesIO(media)) as image:
        found, strict = (plain_png.decode(memoryview(media), image, strict=each) for each in (False, True))
    np.testing.assert_array_equal(found, strict)
    return found


def pillows(media: bytes, profile: Profile = MMPLANE) -> np.ndarray | None:
    """None if it refuses it."""
    try:
        with Image.open(io.BytesIO(media)) as image:
            return np.asarray(profile.rgb(image))
    except (OSError, SyntaxError, ValueError):
        return None


def assert_as_pillow(media: bytes, profile: Profile = MMPLANE) -> None:
    """With all decoders together."""
    try:
        found = decode(memoryview(media), profile=profile)
    except RequestError:
        found = None
    wanted = pillows(media, profile)
    assert (found is None) == (wanted is None)
    if wanted is not None:
        np.testing.assert_array_equal(found, wanted, strict=True)


def picture(pixels: np.ndarray, filters: list[int], chunks: int = 1, level: int = 6) -> bytes:
    """A PNG whose stream is spread over so many chunks."""
    height, width, channels = pixels.shape
    stream = zlib.compress(filtered(pixels, filters), level)
    step = -(-len(stream) // chunks)
    parts = [chunk(b"IDAT", stream[at : at + step]) for at in range(0, len(stream), step)]
    return png_of((width, height), COLOURS[channels], *parts)


@pytest.mark.parametrize("each", range(5))
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("width", [1, 2, 3, 5, 16, 31])
@pytest.mark.parametrize("height", [1, 2, 7, 16])
def test_every_filter_gives_pillows_pixels(each: int, channels: int, width: int, height: int) -> None:
    pixels = np.random.default_rng(each).integers(0, 256, (height, width, channels), np.uint8)
    media = picture(pixels, [each] * height)
    found = plain(media)
    np.testing.assert_array_equal(found, pixels, strict=True)
    assert found is not None
    assert found.flags.c_contiguous
    assert_as_pillow(media)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=20),
    st.integers(1, 40),
    st.sampled_from([1, 3, 4]),
    st.sampled_from([2, 256]),
    st.integers(1, 30),
    st.sampled_from([0, 1, 9]),
    st.integers(0, 99),
)
def test_any_plain_file_gives_pillows_pixels(
    filters: list[int], width: int, channels: int, levels: int, chunks: int, level: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, levels, (len(filters), width, channels), np.uint8)
    media = picture(pixels, filters, chunks, level)
    np.testing.assert_array_equal(plain(media), pixels, strict=True)
    assert_as_pillow(media)


@pytest.mark.parametrize("profile", [MMPLANE, VLLM, SGLANG], ids=lambda profile: profile.name)
@pytest.mark.parametrize("alpha", [0, 254, 255])
@pytest.mark.parametrize("rest", [0, 255])
def test_alpha_is_what_the_profile_makes_of_it(alpha: int, rest: int, profile: Profile) -> None:
    pixels = np.dstack([PIXELS, np.full(PIXELS.shape[:2], rest, np.uint8)])
    pixels[5, 3, 3] = alpha
    media = picture(pixels, [4] * len(pixels))
    assert plain(media) is not None
    assert_as_pillow(media, profile)


def test_a_text_that_speaks_of_transparency_is_left_to_pillow() -> None:
    """Pillow would take it for a transparent colour."""
    media = png_of(SIZE, RGB, chunk(b"tEXt", b"transparency\0yes"), chunk(b"IDAT", STREAM))
    assert_as_pillow(media, SGLANG)


@pytest.mark.parametrize("filter_type", range(5))
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_what_pillow_writes_is_plain(mode: str, filter_type: int) -> None:
    image, file = Image.fromarray(PIXELS).resize((150, 90)).convert(mode), io.BytesIO()
    image.save(file, "PNG", compress_level=filter_type)
    assert plain(file.getvalue()) is not None
    assert_as_pillow(file.getvalue())


PLAIN = {
    "one chunk": [chunk(b"IDAT", STREAM)],
    "empty chunks": [chunk(b"IDAT", part) for part in (b"", STREAM[:9], b"", b"", STREAM[9:], b"")],
    "a byte in each": [chunk(b"IDAT", STREAM[at : at + 1]) for at in range(len(STREAM))],
    "a wrong checksum, as Pillow takes it": [chunk(b"IDAT", STREAM)[:-1] + b"?"],
    "something after the stream": [chunk(b"IDAT", STREAM + b"later")],
    "a small window": [chunk(b"IDAT", b"\x08\x1d" + STREAM[2:])],
    "a palette that is suggested": [chunk(b"PLTE", bytes(9)), chunk(b"IDAT", STREAM)],
}
OTHER = {
    "no stream": [chunk(b"IDAT", b"")],
    "half a stream": [chunk(b"IDAT", STREAM[: len(STREAM) // 2])],
    "no Adler-32": [chunk(b"IDAT", STREAM[:-4])],
    "a wrong Adler-32": [chunk(b"IDAT", STREAM[:-1] + bytes([STREAM[-1] ^ 1]))],
    "a row too few": [chunk(b"IDAT", zlib.compress(ROWS[:-22]))],
    "a byte too few": [chunk(b"IDAT", zlib.compress(ROWS[:-1]))],
    "a byte too many": [chunk(b"IDAT", zlib.compress(ROWS + b"\0"))],
    "a row too many": [chunk(b"IDAT", zlib.compress(ROWS + bytes(22)))],
    "filter 5": [chunk(b"IDAT", zlib.compress(b"\5" + ROWS[1:]))],
    "filter 255 in the last row": [chunk(b"IDAT", zlib.compress(ROWS[:-22] + b"\xff" + ROWS[-21:]))],
    "no zlib header": [chunk(b"IDAT", STREAM[2:])],
    "a wrong check in the zlib header": [chunk(b"IDAT", STREAM[:1] + bytes([STREAM[1] ^ 1]) + STREAM[2:])],
    "a window of 64 KiB": [chunk(b"IDAT", b"\x88\x1c" + STREAM[2:])],
    "a dictionary": [chunk(b"IDAT", b"\x78\xbb" + bytes(4) + STREAM[2:])],
    "a text between": [chunk(b"IDAT", STREAM[:9]), chunk(b"tEXt", b"Title\0."), chunk(b"IDAT", STREAM[9:])],
    "a text after": [chunk(b"IDAT", STREAM), chunk(b"tEXt", b"Title\0.")],
    "transparency after": [chunk(b"IDAT", STREAM), chunk(b"tRNS", bytes(6))],
    "an unknown critical chunk after": [chunk(b"IDAT", STREAM), chunk(b"ABCD", b"")],
    "a frame after": [chunk(b"IDAT", STREAM), chunk(b"fdAT", bytes(4) + STREAM)],
}


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_plain(name: str) -> None:
    media = png_of(SIZE, RGB, *PLAIN[name])
    np.testing.assert_array_equal(plain(media), PIXELS, strict=True)
    assert_as_pillow(media)


SEEN_OTHERWISE = {"a text between", "transparency after", "a frame after"}
"""What our own profile leaves out, or libpng does not read, as ever."""


@pytest.mark.parametrize("name", OTHER)
def test_what_is_left_to_the_other_decoders(name: str) -> None:
    """Also with SGLang's profile, which sees the whole file. vLLM tries twice, and accepts more than Pillow."""
    media = png_of(SIZE, RGB, *OTHER[name])
    assert plain(media) is None
    for profile in (MMPLANE, SGLANG) if name not in SEEN_OTHERWISE else ():
        assert_as_pillow(media, profile)


@pytest.mark.parametrize(
    ("colour", "depth", "interlaced"),
    [
        (GREY, 16, 0),
        (RGB, 16, 0),
        (GREY, 4, 0),
        (GREY_ALPHA, 8, 0),
        (RGBA, 16, 0),
        (PALETTE, 8, 0),
        (RGB, 8, 1),
        (GREY, 8, 1),
    ],
)
def test_other_kinds_of_pixels_are_left_to_the_other_decoders(colour: int, depth: int, interlaced: int) -> None:
    channels = {GREY: 1, PALETTE: 1, GREY_ALPHA: 2, RGB: 3, RGBA: 4}[colour]
    rows = zlib.compress(bytes(1 + -(-channels * depth // 8)))
    media = png_of((1, 1), colour, chunk(b"PLTE", bytes(3)), chunk(b"IDAT", rows), depth=depth, interlaced=interlaced)
    assert plain(media) is None
    assert decode(media).shape == (1, 1, 3)


@pytest.mark.parametrize("profile", [VLLM, SGLANG], ids=lambda profile: profile.name)
def test_a_frame_in_a_corner_is_left_to_pillow(profile: Profile) -> None:
    """An APNG whose first frame is smaller than the picture. Its stream has enough rows of either size."""
    control = struct.pack(">IIIIIHHBB", 0, 3, 2, 1, 1, 1, 1, 0, 0)
    media = png_of(
        SIZE,
        RGB,
        chunk(b"acTL", struct.pack(">II", 1, 0)),
        chunk(b"fcTL", control),
        chunk(b"IDAT", zlib.compress(b"\1" * len(ROWS))),
    )
    assert pillows(media) is not None
    assert_as_pillow(media, profile)


def test_codes_that_zlib_refuses_are_refused_as_by_an_engine() -> None:
    """A block of fixed Huffman codes (RFC 1951, 3.2.6) with the length 286, which does not exist."""
    zero, length, distance, end = "00110000", "11000110", "00000", "0000000"
    bits = "1" + "10" + zero + zero + length + distance + end
    deflated = int(bits[::-1], 2).to_bytes(-(-len(bits) // 8), "little")
    stream = b"\x78\x9c" + deflated + zlib.adler32(bytes(2 + 258)).to_bytes(4, "big")
    media = png_of((129, 2), GREY, chunk(b"IDAT", stream))
    with Image.open(io.BytesIO(media)) as image:
        assert plain_png.decode(media, image, strict=True) is None
        assert plain_png.decode(media, image, strict=False) is not None  # as libdeflate reads it
    assert pillows(media) is None
    assert_as_pillow(media, SGLANG)


@pytest.mark.parametrize("lost", range(1, 80, 7))
def test_a_file_that_ends_early_is_left_to_pillow(lost: int) -> None:
    media = png_of(SIZE, RGB, chunk(b"IDAT", STREAM[:40]), chunk(b"IDAT", STREAM[40:]))[:-lost]
    assert plain(media) is None
    assert_as_pillow(media)


def test_many_chunks_are_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "CHUNKS_MAX", 50)
    media = png_of(SIZE, RGB, *PLAIN["a byte in each"])
    assert plain(media) is None
    assert_as_pillow(media)


def used_bytes(media: bytes) -> tuple[np.ndarray | None, int]:
    """What became of it, and the memory that NumPy and Python had at most."""
    with Image.open(io.BytesIO(media)) as image:
        tracemalloc.start()
        try:
            found = plain_png.decode(media, image, strict=False)
            return found, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_it_stays_within_the_memory_that_is_reserved(channels: int) -> None:
    """Incompressible pixels in two chunks, which are copied."""
    pixels = np.random.default_rng(0).integers(0, 256, (500, 400, channels), np.uint8)
    media = picture(pixels, [0] * 500, chunks=2)
    found, most_bytes = used_bytes(media)
    assert found is not None
    assert len(media) > pixels.nbytes
    assert most_bytes < decoded_bytes(read_header(media))


def test_a_stream_that_is_longer_than_its_rows_is_not_copied() -> None:
    """Empty blocks of deflate, which Pillow reads one after the other."""
    empty = b"\0\0\0\xff\xff" * 200_000
    media = png_of(SIZE, RGB, chunk(b"IDAT", STREAM[:2] + empty), chunk(b"IDAT", STREAM[2:]))
    found, most_bytes = used_bytes(media)
    assert found is None
    assert most_bytes < len(empty) // 10
    assert_as_pillow(media)


MUTANTS = [
    Mutant(
        "an opaque picture",
        image_module._decode_plain_png,
        "0xFF << 24",
        "0xFE << 24",
        test_alpha_is_what_the_profile_makes_of_it,
        (254, 255, MMPLANE),
    ),
    Mutant(
        "an engine's zlib",
        image_module._decode_plain_png,
        "strict=profile is not MMPLANE",
        "strict=False",
        test_codes_that_zlib_refuses_are_refused_as_by_an_engine,
    ),
    Mutant(
        "the length of a stream",
        plain_png.decode,
        "<= rows_bytes + rows_bytes // STORED_BYTES + EXTRA_BYTES",
        "",
        test_a_stream_that_is_longer_than_its_rows_is_not_copied,
    ),
    Mutant(
        "the length of the rows",
        plain_png._inflate,
        "== len(rows)",
        "> 0",
        test_what_is_left_to_the_other_decoders,
        ("a byte too few",),
    ),
    Mutant(
        "the end",
        png.pixel_chunks,
        'kind == b"IEND"',
        'kind != b"IDAT"',
        test_what_is_left_to_the_other_decoders,
        ("a text after",),
    ),
    Mutant(
        "the number of chunks",
        png.pixel_chunks,
        "range(CHUNKS_MAX)",
        "range(10**9)",
        test_many_chunks_are_left_to_pillow,
    ),
    Mutant(
        "the rectangle",
        image_module._decode_plain_png,
        "not _is_whole(image)",
        "False",
        test_a_frame_in_a_corner_is_left_to_pillow,
        (SGLANG,),
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_its_test_kills(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
