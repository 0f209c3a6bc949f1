"""Under an engine's decode profile an image is what the engine's own loader makes of it, or goes the engine's own way.

What the engines make of each file was recorded: `decoding/vllm.json` and `decoding/sglang.json` name the commands.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageOps

from mmplane.commands.options import DECODE_PROFILES
from mmplane.core.errors import UNPROFILED, UNPROFILED_REASONS, RequestError
from mmplane.core.records import Ask, Layout, Tensor
from mmplane.features.choice import Processors
from mmplane.features.contract.arrays import Arrays
from mmplane.features.contract.image import ImageProcessor, Pixels
from mmplane.media import image as image_module
from mmplane.media import materialise, plain_png, profiles
from mmplane.media.image import ImageLimits, decode, probe
from mmplane.media.profiles import PROFILES, Profile
from mutation import Mutant, check_it_is_killed

FOLDER = Path(__file__).with_name("decoding")
FILES = {path.name: path.read_bytes() for path in sorted((FOLDER / "files").iterdir())}
RECORDED: dict[str, dict[str, str]] = {
    engine: json.loads((FOLDER / f"{engine}.json").read_text())["pixels"] for engine in ("vllm", "sglang")
}
ENGINES = sorted(RECORDED)
OTHER_FORMATS = {"ico", "jpeg2000", "ppm", "tga"}
OWN_WAY = {
    "sglang": OTHER_FORMATS | {"png-long", "png-two-headers"},
    "vllm": OTHER_FORMATS | {"png-long", "png-two-headers", "png-orientation-text-6"} | {"jpeg-orientation-odd"},
}
"""What the engines decode, and only they."""


def decoded(media: bytes, profile: Profile) -> Pixels | str:
    """The pixels, `refused` or `unprofiled`."""
    try:
        return decode(memoryview(media), profile=profile)
    except RequestError as error:
        failure = error.failure()
    if failure.code == UNPROFILED:
        assert (failure.status, failure.param in UNPROFILED_REASONS) == (415, True)
        return UNPROFILED
    assert failure.code == "invalid_media"
    return "refused"


def outcome(media: bytes, profile: Profile) -> str:
    """The digest of what becomes of it, `refused` or `unprofiled`."""
    pixels = decoded(media, profile)
    if isinstance(pixels, str):
        return pixels
    assert pixels.flags.c_contiguous
    header = probe(media, profile=profile)
    assert (header.height, header.width, 3) == pixels.shape, "the layout promised another size"
    return f"{header.width}x{header.height} {hashlib.sha256(pixels.tobytes()).hexdigest()[:16]}"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("engine", ENGINES)
def test_pixels_are_the_engines_or_it_goes_its_own_way(engine: str, name: str) -> None:
    theirs, ours = RECORDED[engine][name], outcome(FILES[name], PROFILES[engine])
    if name in OWN_WAY[engine]:
        assert (theirs == "refused", ours) == (False, UNPROFILED)
    elif theirs == "refused":
        assert ours in ("refused", UNPROFILED)
    else:
        assert ours == theirs


@pytest.mark.parametrize("engine", ENGINES)
def test_every_file_was_recorded_and_most_are_covered(engine: str) -> None:
    assert RECORDED[engine].keys() == FILES.keys()
    decoded = [name for name, found in RECORDED[engine].items() if found != "refused"]
    assert len(decoded) > 80
    assert len(OWN_WAY[engine]) < len(decoded) / 10


def test_the_profiles_differ_where_the_table_says_so() -> None:
    found = {name: [outcome(media, PROFILES[each]) for each in DECODE_PROFILES] for name, media in FILES.items()}
    assert len(set(found["jpeg-420"])) == 1
    ours, vllms, sglangs = found["png-rgba-orientation-8"]
    assert ours == vllms != sglangs
    assert len(set(found["png-grey-16-keyed"])) == 3
    ours, vllms, sglangs = found["png-rgb-keyed"]
    assert ours != vllms == sglangs
    ours, vllms, sglangs = found["jpeg-orientation-6"]
    assert ours == vllms != sglangs
    ours, vllms, sglangs = found["tiff-floats"]
    assert "refused" == ours != vllms == sglangs
    assert set(PROFILES) == set(DECODE_PROFILES)


@pytest.mark.parametrize("name", ["jpeg-420", "jpeg-progressive-422", "jpeg-orientation-6", "png-rgb", "png-grey"])
@pytest.mark.parametrize("profile", DECODE_PROFILES)
def test_plain_files_take_the_fast_decoders(profile: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And Pillow decodes nothing."""
    entered: Counter[str] = Counter()
    for module, decoder in (
        (image_module, "decode_jpeg"),
        (plain_png, "deflate_decode"),
        (plain_png, "zlibng_decode"),
    ):
        own = getattr(module, decoder)

        def counted(*arguments: object, own: object = own, **options: object) -> object:
            entered["fast"] += 1
            return own(*arguments, **options)  # type: ignore[operator]

        monkeypatch.setattr(module, decoder, counted)
    monkeypatch.setattr(image_module, "png_decode", lambda *_: entered.update(["libpng"]))
    monkeypatch.setattr(Image.Image, "convert", lambda *_: entered.update(["Pillow"]))
    decode(FILES[name], profile=PROFILES[profile])
    assert entered == {"fast": 1}


def vllms(image: Image.Image) -> Image.Image:
    """vLLM's `load_bytes`, in its own words."""
    with suppress(Exception):
        image = ImageOps.exif_transpose(image)
    image.load()
    if image.mode != "RGB" and (image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info):
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.split()[3])
        return white
    return image.convert("RGB")


def sglangs(image: Image.Image) -> Image.Image:
    """SGLang's `load_image` and what follows, in its own words."""
    image.load()
    return image.convert("RGB")


def theirs(engine: str, media: bytes) -> Pixels | None:
    """The engine's pixels; None when it fails."""
    with warnings.catch_warnings(action="ignore"), suppress(Exception):
        return np.asarray({"vllm": vllms, "sglang": sglangs}[engine](Image.open(io.BytesIO(media))))
    return None


@pytest.mark.parametrize("engine", ENGINES)
def test_damaged_files_are_what_the_engine_takes_them_for(engine: str) -> None:
    """The fast decoders included: they may see no more, and no less, in a file than the engine's loader does."""
    random, found = Random(5), Counter[str]()
    for _ in range(500):
        media = bytearray(FILES[random.choice([*FILES])])
        for _ in range(random.choice((1, 2, 5))):
            media[random.randrange(random.choice((0, 20, len(media) // 3)), len(media))] = random.randrange(256)
        want, pixels = theirs(engine, bytes(media)), decoded(bytes(media), PROFILES[engine])
        if isinstance(pixels, str):
            assert want is None or pixels == UNPROFILED
            found[pixels] += 1
        else:
            assert want is not None
            np.testing.assert_array_equal(pixels, want, strict=True)
            found["pixels"] += 1
    assert found["pixels"] > found[UNPROFILED] > 0 < found["refused"]


def test_damaged_exif_turns_what_it_turns_in_vllm() -> None:
    """The fast decoder has no EXIF: whether its pixels are turned is Pillow's to say, errors included."""
    media = FILES["jpeg-orientation-odd"]
    begin = media.index(b"Exif\0\0") + 6
    end = begin + int.from_bytes(media[begin - 8 : begin - 6], "big") - 8
    random, found = Random(3), Counter[str]()
    for _ in range(400):
        odd = bytearray(media)
        for _ in range(random.choice((1, 2, 4))):
            odd[random.randrange(begin, end)] = random.choice((0, 1, 2, 3, 5, 6, 12, 255, random.randrange(256)))
        want = theirs("vllm", bytes(odd))
        assert want is not None
        pixels = decoded(bytes(odd), PROFILES["vllm"])
        if isinstance(pixels, str):
            found[pixels] += 1
            continue
        np.testing.assert_array_equal(pixels, want, strict=True)
        found["turned" if pixels.shape[0] > pixels.shape[1] else "as stored"] += 1
    assert min(found["turned"], found["as stored"]) > 20
    assert found[UNPROFILED] < 200
    assert not found["refused"]


def test_an_image_that_there_was_no_memory_to_turn_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(profiles.ImageOps, "exif_transpose", no_memory)
    with pytest.raises(MemoryError):
        decode(FILES["jpeg-grey-orientation-6"], profile=PROFILES["vllm"])


@pytest.mark.parametrize("engine", ENGINES)
def test_our_limits_are_not_the_engines(engine: str) -> None:
    with pytest.raises(RequestError) as refused:
        decode(FILES["png-rgb"], ImageLimits(pixels_max=100), profile=PROFILES[engine])
    assert (refused.value.code, refused.value.param) == (UNPROFILED, "limit")
    with pytest.raises(RequestError) as refused:
        decode(FILES["jpeg-progressive-420"], ImageLimits(scans_max=2), profile=PROFILES[engine])
    assert (refused.value.code, refused.value.param) == (UNPROFILED, "limit")


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_clips_and_sounds_go_the_engines_way(modality: str) -> None:
    for engine in ENGINES:
        with pytest.raises(RequestError) as refused:
            PROFILES[engine].check_modality(modality)  # type: ignore[arg-type]
        assert (refused.value.code, refused.value.param) == (UNPROFILED, "modality")
    PROFILES["mmplane"].check_modality(modality)  # type: ignore[arg-type]


def test_models_that_an_engine_loads_otherwise_are_refused() -> None:
    with pytest.raises(ValueError, match="loads the images of Glm4vForConditionalGeneration in a different way"):
        PROFILES["sglang"].check_architectures(["Glm4vForConditionalGeneration"])
    for profile in PROFILES.values():
        profile.check_architectures(["Qwen2_5_VLForConditionalGeneration"])


class Pixel(ImageProcessor):
    """The pixels themselves."""

    fingerprint = bytes(32)
    placeholder_id = None

    def layout(self, width: int, height: int) -> Layout:
        return Layout((Tensor("pixels", "uint8", (height, width, 3), 0),), (), width * height * 3)

    def write(self, pixels: Pixels, out: Arrays) -> int:
        out["pixels"][:] = pixels
        return pixels.nbytes

    def warm(self) -> None: ...


@pytest.mark.parametrize("name", ["jpeg-orientation-6", "png-rgba"])
def test_items_are_made_by_the_processors_profile(name: str) -> None:
    for profile in DECODE_PROFILES:
        processors = Processors("uint8", Pixel(), decode_profile=profile)
        recipe = materialise.examine(processors, FILES[name], Ask("image"))
        made = bytearray(recipe.layout.length_bytes)
        materialise.materialise(processors, FILES[name], recipe, memoryview(made))
        height, width, _ = recipe.layout.tensors[0].shape
        found = f"{width}x{height} {hashlib.sha256(made).hexdigest()[:16]}"
        assert found == outcome(FILES[name], PROFILES[profile])


def test_an_orientation_that_only_pillow_finds_goes_vllms_own_way() -> None:
    """In a text behind the pixels, which Pillow reads once they are decoded."""
    media = FILES["png-orientation-text-6"]
    at = (
        min(
            media.index(b"tEXt") if b"tEXt" in media else len(media),
            media.index(b"zTXt") if b"zTXt" in media else len(media),
        )
        - 4
    )
    length = 12 + int.from_bytes(media[at : at + 4], "big")
    behind = media[:at] + media[at + length : -12] + media[at : at + length] + media[-12:]
    assert outcome(behind, PROFILES["vllm"]) == UNPROFILED


MUTANTS = [
    Mutant(
        f"{engine}: {breaks}",
        function,
        piece,
        instead,
        test_pixels_are_the_engines_or_it_goes_its_own_way,
        (engine, name),
    )
    for engine, breaks, name, function, piece, instead in (
        ("vllm", "a transparent colour by our rule", "png-rgb-keyed", Profile.rgb, "self.rules", "MMPLANE.rules"),
        ("vllm", "alpha by SGLang's rule", "png-palette-alpha", Profile.rgb, "self.rules", "SGLANG.rules"),
        ("sglang", "alpha by vLLM's rule", "png-la", Profile.rgb, "self.rules", "VLLM.rules"),
        ("sglang", "16 bits by our rule", "png-grey-16", Profile.rgb, "self.rules", "MMPLANE.rules"),
        ("sglang", "turned as EXIF says", "jpeg-orientation-6", Profile.seen, 'self.turning == "never"', "False"),
        (
            "vllm",
            "not turned",
            "webp-orientation-6",
            profiles._upright,
            "return ImageOps.exif_transpose(image)",
            "pass",
        ),
        ("vllm", "one attempt", "png-damaged", profiles._upright, "except Exception", "except ZeroDivisionError"),
        ("vllm", "our limits are its", "png-long", Profile.own_way, "if self is MMPLANE", "if True"),
    )
]
MUTANTS += [
    Mutant(
        "vllm: a text behind",
        image_module._decode_plain,
        "not says_no_more(media)",
        "0",
        test_an_orientation_that_only_pillow_finds_goes_vllms_own_way,
    ),
    Mutant(
        "vllm: no memory to turn it",
        profiles._upright,
        "except MemoryError",
        "except ZeroDivisionError",
        test_an_image_that_there_was_no_memory_to_turn_is_not_taken_for_it,
    ),
    Mutant(
        "vllm: the header's word for what is turned",
        Profile.trusts,
        "_pillows_orientation(image) == header.orientation",
        "True",
        test_damaged_exif_turns_what_it_turns_in_vllm,
    ),
    Mutant(
        "pixels by our own profile",
        materialise._make_image,
        ", profile=PROFILES[processors.decode_profile]",
        "",
        test_items_are_made_by_the_processors_profile,
        ("png-rgba",),
    ),
    Mutant(
        "layouts by our own profile",
        materialise.examine,
        "profile = PROFILES[processors.decode_profile]",
        'profile = PROFILES["mmplane"]',
        test_items_are_made_by_the_processors_profile,
        ("jpeg-orientation-6",),
    ),
    Mutant(
        "clips are made our way",
        Profile.check_modality,
        "modality not in self.modalities",
        "False",
        test_clips_and_sounds_go_the_engines_way,
        ("video",),
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_is_found(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
