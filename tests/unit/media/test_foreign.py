"""HEIC and JPEG XL, which Pillow does not know: shown as their files say, or refused."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from clips import recorded
from heic import Item, box, coded, crop, grid, grid_of, heic, mirror, overlay_of, turn
from mmplane.core.errors import RequestError
from mmplane.media import boxes, header, image
from mmplane.media.image import decode, probe
from mmplane.media.profiles import SGLANG, VLLM, Profile
from mutation import Mutant, check_it_is_killed

PHOTO = Image.fromarray(load_sample_images().images[0]).resize((200, 120))
CODED = coded(PHOTO)
OFF_MAX = 4.0
"""On average, of 255: what is lost in coding."""


def but(item: Item, *properties: tuple[bytes, bytes]) -> bytes:
    return heic([replace(item, properties=item.properties + properties)])


def assert_shows(media: bytes, expected: Image.Image) -> None:
    pixels = decode(memoryview(media))
    found = probe(media)
    assert (found.width, found.height) == expected.size == pixels.shape[1::-1]
    assert np.abs(pixels.astype(int) - np.asarray(expected)).mean() < OFF_MAX


def refused(media: bytes, **options: Any) -> RequestError:
    with pytest.raises(RequestError) as error:
        decode(media, **options)
    assert error.value.status == 400
    return error.value


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("quarters", range(4))
def test_a_heic_is_turned_and_mirrored_as_its_properties_say(quarters: int, axis: int | None) -> None:
    shown = PHOTO.rotate(90 * quarters, expand=True)
    mirrors = {0: Image.Transpose.FLIP_TOP_BOTTOM, 1: Image.Transpose.FLIP_LEFT_RIGHT}
    expected = shown if axis is None else shown.transpose(mirrors[axis])
    assert_shows(but(CODED, turn(quarters), *(() if axis is None else (mirror(axis),))), expected)


def test_a_heic_is_cropped_before_it_is_turned() -> None:
    assert_shows(but(CODED, crop(190, 110), turn(1)), PHOTO.crop((5, 5, 195, 115)).rotate(90, expand=True))


@pytest.mark.parametrize("brands", [b"heicmif1heic", b"mif1miafheic", b"mif1mif1miaf", b"heixmif1heix"])
def test_a_heic_by_any_name(brands: bytes) -> None:
    assert_shows(heic([CODED], brands=brands), PHOTO)


def test_tiles_and_overlays() -> None:
    """As phones write them; the last tiles reach over the edges."""
    assert_shows(grid(PHOTO, 64), PHOTO)
    assert_shows(heic([CODED, overlay_of(PHOTO.size, (1,))], primary=2), PHOTO)


def test_of_several_pictures_the_primary_one_is_shown() -> None:
    assert_shows(heic([coded(PHOTO.rotate(180)), CODED, CODED], primary=2), PHOTO)


@pytest.mark.parametrize("kept", [0.01, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("make", [lambda: heic([CODED]), lambda: grid(PHOTO, 64)], ids=["one", "tiles"])
def test_a_heic_that_is_cut_is_refused(make: Callable[[], bytes], kept: float) -> None:
    """libheif would leave out the tiles that are missing."""
    media = make()
    refused(media[: int(len(media) * kept)])


def claiming(width: int, height: int) -> Item:
    """A picture that says it has another size."""
    return replace(CODED, properties=((b"ispe", struct.pack(">III", 0, width, height)), *CODED.properties[1:]))


@pytest.mark.parametrize(
    "media",
    [
        heic([claiming(64, 64)]),
        heic([claiming(8000, 7000)]),
        heic([claiming(2**31, 2**31)]),
        heic([claiming(0, 0)]),
        heic([claiming(16, 16)] * 4 + [grid_of((32, 32), 2, 2, (1, 2, 3, 4))], primary=5),
        heic([CODED, grid_of((400, 240), 2, 2, (1, 1, 1, 1))], primary=2),
        heic([grid_of((64, 64), 1, 1, (1,))]),
        heic([CODED, overlay_of((200, 120), (2,))], primary=2),
        heic([Item(b"iden", b"", CODED.properties)]),
        heic([CODED], primary=7),
        heic([CODED]).replace(b"hvc1", b"jpeg"),
        heic([replace(CODED, content=bytes(len(CODED.content)))]),
        heic([replace(CODED, content=b"")]),
        b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + box(b"free") * 100_000,
    ],
)
def test_a_heic_that_lies_is_refused(media: bytes) -> None:
    refused(media)


def test_many_pictures_on_top_of_each_other_are_refused_before_one_is_decoded() -> None:
    """Each part is decoded, and a few bytes can be megapixels."""
    parts = [claiming(4000, 3000)] * 5
    media = heic([*parts, overlay_of((4000, 3000), tuple(range(1, 6)))], primary=6)
    with pytest.raises(RequestError):
        probe(media)
    probe(heic([*parts[:4], overlay_of((4000, 3000), (1, 2, 3, 4))], primary=5))


def jxl(pixels: np.ndarray, **options: Any) -> bytes:
    return imagecodecs.jpegxl_encode(pixels, lossless=True, **options)


RGB = np.asarray(PHOTO)
GREY = np.asarray(PHOTO.convert("L"))
ALPHA = np.asarray(Image.linear_gradient("L").resize(PHOTO.size))


def over_white(colours: np.ndarray) -> np.ndarray:
    seen = Image.fromarray(np.dstack([colours, ALPHA]))
    return np.asarray(Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB"))


def in_pieces(media: bytes) -> bytes:
    """The codestream in several boxes, the first of which has only two bytes."""
    pieces = [media[:2], media[2:5], media[5:]]
    parts = (box(b"jxlp", struct.pack(">I", number | (number == 2) << 31), each) for number, each in enumerate(pieces))
    return box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl \0\0\0\0jxl ") + b"".join(parts)


GREYS = np.repeat(GREY[..., None], 3, axis=2)
EXACT = {
    "colours": (jxl(RGB), RGB),
    "in a container": (jxl(RGB, usecontainer=True), RGB),
    "in pieces": (in_pieces(jxl(RGB)), RGB),
    "grey": (jxl(GREY), GREYS),
    "16 bits of colours": (jxl(RGB.astype(np.uint16) * 257), RGB),
    "16 bits of grey": (jxl(GREY.astype(np.uint16) * 257), GREYS),
    "10 bits": (jxl(((RGB.astype(np.uint32) * 1023 + 127) // 255).astype(np.uint16), bitspersample=10), RGB),
    "transparent": (jxl(np.dstack([RGB, ALPHA])), over_white(RGB)),
    "transparent grey": (jxl(np.dstack([GREY, ALPHA])), over_white(GREYS)),
    "frames, of which the first is shown": (jxl(np.stack([RGB, 255 - RGB])), RGB),
}


@pytest.mark.parametrize("name", EXACT)
def test_a_jpegxl_without_loss_has_its_own_pixels(name: str) -> None:
    media, expected = EXACT[name]
    np.testing.assert_array_equal(decode(memoryview(media)), expected, strict=True)
    assert probe(media).format == "JPEGXL"


def test_a_photograph_as_jpegxl() -> None:
    assert_shows(imagecodecs.jpegxl_encode(RGB, level=95), PHOTO)


def test_a_jpegxl_is_turned() -> None:
    """As its image metadata say: mirrored at the other diagonal."""
    media = recorded("sunset_logo.jxl")
    stored = imagecodecs.jpegxl_decode(media, index=0, keeporientation=True, numthreads=1)
    seen = Image.fromarray(((stored.astype(np.uint32) * 255 + 511) // 1023).astype(np.uint8))
    white = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    assert_shows(media, white.transpose(Image.Transpose.TRANSVERSE))


@pytest.mark.parametrize("kept", [0.005, 0.1, 0.5, 0.99])
def test_a_jpegxl_that_is_cut_is_refused(kept: float) -> None:
    media = jxl(RGB)
    refused(media[: int(len(media) * kept)])


def test_colours_that_are_no_screens_are_refused() -> None:
    """libjxl would give light in the place of colours, without a word."""
    for media in (recorded("profile.jxl"), jxl((RGB / 255).astype(np.float32))):
        assert refused(media).message == "the image's pixel format is not supported"


def test_a_jpegxl_of_absurd_size_is_refused_by_its_header() -> None:
    """Height and width of 30 bits each."""
    fields = 0b11 << 1 | (2**30 - 1) << 3 | 0 << 33 | 0b11 << 36 | (2**30 - 1) << 38
    media = b"\xff\x0a" + (fields | 1 << 68).to_bytes(20, "little")
    assert refused(media).message == "the image has too many pixels"


@pytest.mark.parametrize("profile", [VLLM, SGLANG], ids=["vllm", "sglang"])
@pytest.mark.parametrize("media", [heic([CODED]), jxl(RGB)], ids=["heic", "jpegxl"])
def test_an_engine_is_left_what_its_own_loader_does_not_open(media: bytes, profile: Profile) -> None:
    with pytest.raises(RequestError) as error:
        decode(media, profile=profile)
    assert (error.value.code, error.value.param) == ("unprofiled", "format")


def test_pillow_itself_opens_no_more_than_before() -> None:
    """An engine in the same process goes on as it did."""
    decode(heic([CODED]))
    for media in (heic([CODED]), jxl(RGB)):
        with pytest.raises(Image.UnidentifiedImageError):
            Image.open(io.BytesIO(media))


MUTANTS = [
    Mutant(
        "pixels of a picture's parts",
        boxes._Items.check_parts,
        "if pixels > max(",
        "if 0 > max(",
        test_many_pictures_on_top_of_each_other_are_refused_before_one_is_decoded,
    ),
    Mutant(
        "bytes of a picture's parts",
        boxes._Items.check_parts,
        "ends[part] > self._length_bytes",
        "False",
        test_a_heic_that_is_cut_is_refused,
        (lambda: grid(PHOTO, 64), 0.9),
    ),
    Mutant(
        "colours of a screen",
        header.jpegxl.facts_of,
        "needs_profile = in_xyb",
        "needs_profile = False",
        test_colours_that_are_no_screens_are_refused,
    ),
    Mutant(
        "an engine's formats",
        image.probe,
        "header.format in FOREIGN and profile is not MMPLANE",
        "False",
        test_an_engine_is_left_what_its_own_loader_does_not_open,
        (jxl(RGB), VLLM),
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_is_found(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
