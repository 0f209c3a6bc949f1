"""`--backend torchvision`: the bits of transformers' torchvision backend, without torch, where they were compared."""

from __future__ import annotations

import io
import logging
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image
from sklearn.datasets import load_sample_images

from mmplane.config import Config
from mmplane.core.errors import RequestError
from mmplane.features import verdict
from mmplane.features.arithmetic import kernels
from mmplane.features.checkpoint import files
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.choice import choose
from mmplane.features.families import phi4_multimodal
from mmplane.features.families.table import TableImageProcessor
from mmplane.features.reference.parity import PARITY_SIZES, materialise
from mmplane.features.select import image_processor
from mmplane.features.verdict import Subject
from mmplane.media.image import decode
from mutation import Mutant, check_it_is_killed
from torchvision_reference import TORCHVISION, Reference

from .checkpoints import FAMILIES
from .conformance import assert_equal, fast

PATH = verdict._path
PHOTOS = [Image.fromarray(pixels) for pixels in load_sample_images().images]
NOISE = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
SIZES = [(1, 1), (1, 150), (190, 1), (112, 224), (56, 56), (57, 55)]
"""(height, width) of the first; what an image becomes as it is, and what is padded or refused."""
SIZES += [tuple(size) for size in np.random.default_rng(1).integers(1, 150, (215, 2)).tolist()]

MORE: list[tuple[str, dict[str, Any]]] = [
    ("qwen2_5_vl", {"max_pixels": 28 * 28 * 16, "resample": 2}),
    ("qwen2_5_vl", {"merge_size": 1, "temporal_patch_size": 3, "do_normalize": False}),
    ("qwen2_5_vl", {"do_rescale": False, "resample": 1}),
    ("llava", {"size": {"height": 60, "width": 70}}),
    ("llava", {"size": {"shortest_edge": 40}, "crop_size": {"height": 51, "width": 44}}),
    ("llava", {"size": {"shortest_edge": 41}, "crop_size": {"height": 50, "width": 44}}),
    ("llava", {"size": {"shortest_edge": 50, "longest_edge": 90}, "crop_size": {"height": 48, "width": 64}}),
    ("llava_padded", {"image_mean": [0.5, 0.5, 0.5], "resample": 2, "do_rescale": False}),
    ("llava_siglip", {"do_normalize": False, "size": {"height": 42, "width": 70}}),
    ("internvl", {"min_patches": 2, "max_patches": 5, "resample": 2}),
    ("internvl", {"max_patches": 1}),
    ("llava_next", {"size": {"height": 28, "width": 28}, "crop_size": 28, "resample": 2}),
    ("llava_next", {"do_center_crop": False}),
    ("llama4", {"resize_to_max_canvas": True, "max_patches": 7}),
    ("llama4", {"max_patches": 1, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.3, 0.2, 0.1], "resample": 3}),
    ("kimi_vl", {"merge_size": 1, "max_patches": 30, "size": {"max_height": 8, "max_width": 8}, "patch_size": 16}),
    ("minicpm_v", {"downsample_mode": "4x", "max_slice_nums": 4, "patch_size": 8}),
    ("idefics3", {"do_image_splitting": False, "resample": 3}),
    ("phi4_multimodal", {"dynamic_hd": 1}),
    ("phi4_multimodal", {"dynamic_hd": 36, "size": {"height": 28, "width": 28}, "do_normalize": False}),
    ("phi4_multimodal", {"size": {"height": 45, "width": 45}, "patch_size": 15, "do_rescale": False}),
    ("phi4_multimodal", {"dynamic_hd": 7, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.3, 0.2, 0.1]}),
]


LARGE: dict[str, dict[str, Any]] = {
    "qwen2_5_vl": {},
    "internvl": {},
    "phi4_multimodal": {"size": {"height": 448, "width": 448}, "dynamic_hd": 36},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_two_hundred_sizes(name: str, tmp_path: Path, reference: Reference) -> None:
    folder = FAMILIES[name].write(tmp_path)
    images = [np.ascontiguousarray(NOISE[:height, :width]) for height, width in SIZES]
    assert assert_equal(fast(folder, "torchvision"), images, reference.images(folder, images)) >= 200


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def with_alpha(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def deep(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)


SMALL = PHOTOS[0].resize((210, 140))
KINDS: dict[str, bytes] = {
    "JPEG 4:2:0": encoded(SMALL, "JPEG", subsampling=2),
    "JPEG 4:4:4": encoded(SMALL, "JPEG", subsampling=0),
    "progressive": encoded(SMALL, "JPEG", progressive=True),
    "grey": encoded(SMALL.convert("L"), "JPEG"),
    "CMYK": encoded(SMALL.convert("CMYK"), "JPEG"),
    "rotated by EXIF": encoded(SMALL, "JPEG", exif=turned()),
    "PNG": encoded(SMALL, "PNG"),
    "RGBA": encoded(with_alpha(SMALL), "PNG"),
    "palette": encoded(SMALL.convert("P"), "PNG"),
    "16 bit": encoded(deep(SMALL), "PNG"),
    "WebP": encoded(SMALL, "WEBP"),
}
TRUNCATED = KINDS["JPEG 4:2:0"][:3000]


@pytest.mark.parametrize("name", FAMILIES)
def test_twelve_kinds_of_files_in_every_encoding(name: str, tmp_path: Path, reference: Reference) -> None:
    folder = FAMILIES[name].write(tmp_path)
    images = [decode(media) for media in KINDS.values()]
    processor = fast(folder, "torchvision")
    answers = reference.images(folder, images, as_bytes=processor.has_bytes)
    assert assert_equal(processor, images, answers, in_every=True) == len(KINDS)
    with pytest.raises(RequestError):
        decode(TRUNCATED)


@pytest.mark.parametrize(("name", "changes"), MORE, ids=str)
def test_other_configurations(name: str, changes: dict[str, Any], tmp_path: Path, reference: Reference) -> None:
    folder = FAMILIES[name].write(tmp_path, **changes)
    images = [np.ascontiguousarray(NOISE[:height, :width]) for height, width in SIZES[:20]]
    assert assert_equal(fast(folder, "torchvision"), images, reference.images(folder, images)) >= 15


def test_large_images(tmp_path: Path, reference: Reference) -> None:
    images = [np.asarray(PHOTOS[0].resize(size)) for size in ((1288, 966), (3840, 2160))]
    for name, changes in LARGE.items():
        folder = FAMILIES[name].write(tmp_path / name, **changes)
        assert assert_equal(fast(folder, "torchvision"), images, reference.images(folder, images)) == 2


@pytest.mark.parametrize("changes", [{"resample": 0}, {"do_rescale": False, "do_normalize": False}])
def test_what_is_not_reproduced_goes_the_generic_way_which_needs_torchvision(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = FAMILIES["qwen2_5_vl"].write(tmp_path, **changes)
    with pytest.raises(ValueError, match="no torchvision backend"):
        image_processor(folder, backend="torchvision")


def config(folder: str) -> Config:
    return Config(model="", model_folder=folder, served_name="", device="none", backend="torchvision")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model whose verdicts are remembered in a folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(verdict, "_path", PATH)
    return FAMILIES["qwen2_5_vl"].write(tmp_path / "model")


def test_phi4_with_another_filter_needs_the_generic_path_which_needs_torchvision(
    tmp_path: Path, reference: Reference
) -> None:
    """Whichever backend is asked for: there is only one."""
    folder = FAMILIES["phi4_multimodal"].write(tmp_path, resample=2)
    with pytest.raises(ValueError, match=r"family without a fast path\. Start with --generic"):
        image_processor(folder, generic=False)
    pixels = np.ascontiguousarray(NOISE[:90, :130])
    (theirs,) = reference.images(folder, [pixels], backend="pil")
    assert theirs.keys() == {"image_pixel_values", "image_sizes", "image_attention_mask", "expansion"}
    assert theirs["image_pixel_values"].shape == (1, 5, 3, 56, 56)
    (token, count), *rest = theirs["expansion"].tolist()
    assert (token, rest) == (5, [])
    assert count > 256


def test_without_a_verdict_it_is_refused_and_what_to_do_is_said(
    folder: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """torchvision is not installed here: nobody can compare."""
    for loaded in (True, False):
        monkeypatch.setattr(verdict, "_loaded", lambda loaded=loaded: loaded)
        with pytest.raises(ValueError, match="Install torch and torchvision"):
            choose(config(folder))
        assert "image features were not compared with transformers with torchvision" in caplog.text
        caplog.clear()
    assert not list(tmp_path.rglob("verdicts/*.json"))


def test_a_torchvision_for_another_torch_is_said(
    folder: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its operators do not load: here they are not there."""
    package = tmp_path / "installed" / "torchvision"
    package.mkdir(parents=True)
    for path in (TORCHVISION / "torchvision").iterdir():
        if path.suffix != ".so":
            (package / path.name).symlink_to(path)
    monkeypatch.syspath_prepend(str(TORCHVISION))  # for its version
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    subject = Subject(CheckpointFiles(folder), "torchvision")
    assert verdict._compare_apart(subject, ["image"]) == {"image": "not compared"}
    assert "could not be compared with transformers with torchvision" in caplog.text
    assert "operator torchvision::" in caplog.text


def test_the_verdict_of_a_process_that_has_torchvision_serves_one_that_cannot_load_it(
    folder: str,
    reference: Reference,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    assert reference.verdict(folder, tmp_path / "cache") == "same"
    monkeypatch.syspath_prepend(str(TORCHVISION))  # installed, and built for another torch
    with caplog.at_level(logging.DEBUG):
        processors = choose(config(folder))
    assert "those of transformers with torchvision (compared before; " in caplog.text
    assert "torchvision 0.28.0" in caplog.text
    assert processors.encoding == "uint8"
    pixels = np.ascontiguousarray(NOISE[:70, :90])
    (theirs,) = reference.images(folder, [pixels], as_bytes=True)
    stored: Any = materialise(processors.for_images, pixels)["pixel_values"]
    form = processors.byte_forms["image"]
    np.testing.assert_array_equal(form.with_copies(stored).reshape(theirs["bytes"].shape), theirs["bytes"])
    monkeypatch.setattr(files, "version", lambda _: "0.29.0")
    with pytest.raises(ValueError, match="--backend pil"):
        choose(config(folder))


def test_a_difference_means_torchvisions_own(folder: str, caplog: pytest.LogCaptureFixture) -> None:
    """Which serves where it can be loaded, and is not installed here."""
    with pytest.raises(ValueError, match="no torchvision backend"):
        image_processor(folder, backend="torchvision", verdict="differs")


def test_one_wrong_bit_is_found(folder: str, reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    right = kernels.torch_weights

    def off_by_one(*sizes: int) -> object:
        first, count, fixed = right(*sizes)
        return first, count, fixed + np.int32(1 << 12)

    images = [np.ascontiguousarray(NOISE[:70, :90])]
    answers = reference.images(folder, images)
    monkeypatch.setattr(kernels, "torch_weights", off_by_one)
    with pytest.raises(AssertionError):
        assert_equal(fast(folder, "torchvision"), images, answers)


def test_one_wrong_bit_of_a_thumbnail_is_found(
    tmp_path: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = FAMILIES["phi4_multimodal"].write(tmp_path)
    processor, images = fast(folder, "torchvision"), [np.ascontiguousarray(NOISE[:70, :90])]
    answers = reference.images(folder, images)
    monkeypatch.setattr(phi4_multimodal, "shrink_values", off_by_one)
    with pytest.raises(AssertionError):
        assert_equal(processor, images, answers)


def off_by_one(source: Any, table: Any, out: Any) -> None:
    """A thumbnail with one wrong bit, unless it is the only tile."""
    kernels.shrink_values(source, table, out)
    out.view(np.uint32)[0, 1, 2] += np.uint32(source.size > out.size)


def test_the_comparison_contains_an_image_of_several_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model with tiles as large as Phi-4-multimodal's: only then is the thumbnail an interpolation."""
    processor = fast(FAMILIES["phi4_multimodal"].write(tmp_path, **LARGE["phi4_multimodal"]), "torchvision")

    def made() -> list[bytes]:
        blank = (np.zeros((height, width, 3), np.uint8) for width, height in PARITY_SIZES)
        return [materialise(processor, pixels)["image_pixel_values"].tobytes() for pixels in blank]

    right = made()
    monkeypatch.setattr(phi4_multimodal, "shrink_values", off_by_one)
    assert made() != right


def test_phi4_is_served_where_it_was_compared_and_has_no_bytes(
    tmp_path: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = FAMILIES["phi4_multimodal"].write(tmp_path / "model")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(verdict, "_path", PATH)
    assert reference.verdict(folder, tmp_path / "cache") == "same"
    monkeypatch.syspath_prepend(str(TORCHVISION))
    processors = choose(replace(config(folder), backend="pil"))
    assert isinstance(processors.image, phi4_multimodal.Phi4MultimodalImageProcessor)
    assert processors.encoding == processors.image.layout(90, 70).tensors[0].dtype == "float32"
    assert processors.byte_forms == {}
    assert processors.compact() == processors
    with pytest.raises(ValueError, match="have no uint8 encoding"):
        choose(replace(config(folder), encoding="uint8"))


def test_the_backends_give_other_values_and_have_other_fingerprints(folder: str) -> None:
    by_name = {
        name: image_processor(folder, backend=name, verdict="same")  # type: ignore[arg-type]
        for name in ("pil", "torchvision")
    }
    pixels = np.asarray(PHOTOS[0].resize((310, 203)))
    pil, other = (materialise(each, pixels)["pixel_values"] for each in by_name.values())
    apart = np.abs(pil - other).max()
    assert 0 < apart < 0.15  # a level of 256 is 0.015
    assert by_name["pil"].fingerprint != by_name["torchvision"].fingerprint


def test_arguments_of_one_call_keep_the_backend(folder: str, tmp_path: Path) -> None:
    processor = image_processor(folder, backend="torchvision", verdict="same")
    shrunk = fast(FAMILIES["qwen2_5_vl"].write(tmp_path / "shrunk", max_pixels=28 * 28 * 4), "torchvision")
    pixels = np.ascontiguousarray(NOISE[:150, :210])
    ours, theirs = materialise(processor.adjusted({"max_pixels": 28 * 28 * 4}), pixels), materialise(shrunk, pixels)
    assert {name: array.tobytes() for name, array in ours.items()} == {
        name: array.tobytes() for name, array in theirs.items()
    }
    with pytest.raises(ValueError, match="Qwen2VLImageProcessor"):  # torchvision would give bytes
        processor.adjusted({"do_rescale": False, "do_normalize": False})


def test_keys_contain_the_backend_and_its_version(folder: str) -> None:
    def fingerprints() -> list[bytes]:
        fingerprint = CheckpointFiles(folder).fingerprint
        return [
            fingerprint("image", "uint8", backend=backend, compared=compared)
            for backend in ("pil", "torchvision")
            for compared in (True, False)
        ]

    now = fingerprints()
    assert len(set(now)) == 4
    version = files.version
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "version", lambda name: "9" if name == "torchvision" else version(name))
        then = fingerprints()
    assert [one == other for one, other in zip(now, then, strict=True)] == [True, True, False, True]


MUTANTS = [
    Mutant(
        "keys of the two backends differ",
        CheckpointFiles.fingerprint,
        "{modality} {backend} {encoding}",
        "{modality} {encoding}",
        test_keys_contain_the_backend_and_its_version,
    ),
    Mutant(
        "a key contains the version of torchvision",
        CheckpointFiles.fingerprint,
        "versions(backend)",
        "versions()",
        test_keys_contain_the_backend_and_its_version,
    ),
    Mutant(
        "what is not a look-up of pixels has no bytes",
        TableImageProcessor.__init__,
        "not self.has_bytes",
        "False",
        test_phi4_is_served_where_it_was_compared_and_has_no_bytes,
    ),
    Mutant(
        "the patches of padding are no tokens",
        phi4_multimodal.Phi4MultimodalImageProcessor._companions,
        "// self._patch, 0) :] = False",
        "// self._patch, 0) :] = True",
        test_two_hundred_sizes,
        ("phi4_multimodal",),
    ),
    Mutant(
        "nothing unconfirmed is served as torchvision's",
        image_processor,
        'verdict == "not compared" and backend == "torchvision"',
        "False",
        test_without_a_verdict_it_is_refused_and_what_to_do_is_said,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_mutants_are_killed(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
