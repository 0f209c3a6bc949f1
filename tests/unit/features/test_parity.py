"""Every fast path gives the bits of transformers' own processor, whatever the picture, size and configuration."""

from __future__ import annotations

import io
import tracemalloc
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from mmplane.core.errors import RequestError
from mmplane.features.arithmetic.encodings import ENCODINGS, Encoding, cast, dtype_of
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.contract.arrays import views
from mmplane.features.contract.image import Pixels
from mmplane.features.families.names import FAST, KNOWN
from mmplane.features.families.table import TableImageProcessor
from mmplane.features.reference.checkpoint import ReferenceCheckpoint
from mmplane.features.reference.huggingface import HuggingFaceImageProcessor
from mmplane.features.reference.parity import difference, materialise, same
from mmplane.media.image import decode

from .checkpoints import FAMILIES

PHOTOS = [Image.fromarray(pixels) for pixels in load_sample_images().images]
NOISE = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)

CONFIGURATIONS: list[tuple[str, dict[str, Any]]] = [
    ("qwen2_5_vl", {}),
    ("qwen2_5_vl", {"max_pixels": 28 * 28 * 16}),
    ("qwen2_5_vl", {"min_pixels": 28 * 28 * 64}),
    ("qwen2_5_vl", {"merge_size": 1, "temporal_patch_size": 3, "resample": 1}),
    ("qwen2_5_vl", {"do_normalize": False, "resample": 2}),
    ("qwen2_5_vl", {"do_rescale": False, "do_normalize": False}),
    ("qwen3_vl", {}),
    ("llava", {}),
    ("llava", {"size": {"height": 60, "width": 70}}),
    ("llava", {"size": {"shortest_edge": 40}, "crop_size": {"height": 50, "width": 44}}),
    ("llava", {"size": {"shortest_edge": 50, "longest_edge": 90}, "crop_size": {"height": 48, "width": 64}}),
    ("llava", {"do_normalize": False, "resample": 1}),
    ("llava_padded", {}),
    ("llava_padded", {"image_mean": [0.5, 0.5, 0.5], "resample": 2}),
    ("llava_siglip", {}),
    ("llava_siglip", {"resample": 1, "size": {"height": 42, "width": 70}}),
    ("gemma3", {}),
    ("internvl", {}),
    ("internvl", {"min_patches": 2, "max_patches": 5}),
    ("internvl", {"max_patches": 1, "resample": 2}),
    ("llava_next", {}),
    ("llava_next", {"size": {"height": 28, "width": 28}, "crop_size": 28, "resample": 2}),
    ("llava_next", {"do_center_crop": False}),
    ("glm4v", {}),
    ("idefics3", {}),
    ("idefics3", {"do_image_splitting": False}),
    ("paddle_ocr", {}),
    ("minicpm_v", {}),
]
ONE_OF_EACH = sorted({name for name, _ in CONFIGURATIONS})


@cache
def both(index: int) -> tuple[TableImageProcessor, HuggingFaceImageProcessor]:
    name, changes = CONFIGURATIONS[index]
    with TemporaryDirectory() as folder:
        written = FAMILIES[name].write(Path(folder), **changes)
        checkpoint, reference = ImageCheckpoint.load(written, KNOWN), ReferenceCheckpoint.load(written)
        fast, generic = FAST[checkpoint.kind](checkpoint, "float32"), HuggingFaceImageProcessor(reference)
        assert FAST[checkpoint.kind].serves(checkpoint)
        for size in ((200, 100), (300, 200)):  # reads the vocabulary
            assert fast.layout(*size) == generic.layout(*size)
        described = reference.described()
    assert (checkpoint.kind, checkpoint.placeholder_id) == (described.kind, described.placeholder_id)
    assert checkpoint.options == {name: described.options.get(name) for name in checkpoint.options}
    assert checkpoint.input_names == described.input_names
    return fast, generic


def assert_equal(index: int, pixels: Pixels) -> None:
    fast, reference = both(index)
    height, width, _ = pixels.shape
    try:
        layout = reference.layout(width, height)
    except RequestError:
        with pytest.raises(RequestError):
            fast.layout(width, height)
        return
    assert fast.layout(width, height) == layout
    ours, theirs = materialise(fast, pixels), materialise(reference, pixels)
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, strict=True)


def encoded(image: Image.Image, image_format: str, **options: Any) -> Pixels:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return decode(buffer.getvalue())


def with_alpha(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def turned() -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif}


PICTURES: dict[str, Any] = {
    "photograph": lambda: encoded(PHOTOS[0], "JPEG", quality=90),
    "other photograph, tall": lambda: encoded(PHOTOS[1].crop((100, 0, 300, 420)), "PNG"),
    "grey": lambda: encoded(PHOTOS[1].convert("L").resize((200, 130)), "PNG"),
    "palette": lambda: encoded(PHOTOS[1].convert("P").resize((131, 97)), "PNG"),
    "alpha": lambda: encoded(with_alpha(PHOTOS[0].resize((180, 180))), "PNG"),
    "exif-rotated": lambda: encoded(PHOTOS[0].resize((210, 140)), "JPEG", **turned()),
    "one pixel high": lambda: np.ascontiguousarray(NOISE[:1, :150]),
    "one pixel wide": lambda: np.ascontiguousarray(NOISE[:190, :1]),
    "extreme aspect": lambda: np.ascontiguousarray(np.asarray(PHOTOS[0].resize((1590, 8)))),
    "one pixel": lambda: np.ascontiguousarray(NOISE[:1, :1]),
    "fits as it is": lambda: np.ascontiguousarray(NOISE[:112, :224]),
}


@pytest.mark.parametrize("index", range(len(CONFIGURATIONS)))
@pytest.mark.parametrize("picture", PICTURES)
def test_pictures(index: int, picture: str) -> None:
    assert_equal(index, PICTURES[picture]())


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_4k(name: str) -> None:
    index = next(i for i, (family, _) in enumerate(CONFIGURATIONS) if family == name)
    assert_equal(index, np.asarray(PHOTOS[0].resize((3840, 2160))))


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.integers(0, len(CONFIGURATIONS) - 1), st.integers(1, 300), st.integers(1, 300))
def test_sizes(index: int, width: int, height: int) -> None:
    assert_equal(index, np.ascontiguousarray(NOISE[:height, :width]))


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_hold_the_same_values(name: str, encoding: Encoding) -> None:
    index = next(i for i, (family, _) in enumerate(CONFIGURATIONS) if family == name)
    fast, reference = both(index)
    pixels = np.ascontiguousarray(NOISE[:90, :170])
    exact: Any = materialise(reference, pixels)["pixel_values"]
    processor = type(fast)(fast._checkpoint, encoding)
    assert processor.layout(170, 90).tensors[0].dtype == dtype_of(encoding)
    stored: Any = materialise(processor, pixels)["pixel_values"]
    if encoding == "uint8":
        rebuilt = np.empty_like(exact)
        processor.byte_form.rebuild(stored, rebuilt)
        np.testing.assert_array_equal(rebuilt, exact, strict=True)
        assert exact.nbytes == stored.nbytes * 4 * processor.byte_form.copies
    elif encoding == "uint8_copies":
        pixels_alone: Any = materialise(processor.recoded("uint8"), pixels)["pixel_values"]
        np.testing.assert_array_equal(stored.ravel(), processor.byte_form.with_copies(pixels_alone).ravel())
    else:
        np.testing.assert_array_equal(stored, cast(exact, encoding), strict=True)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_slot_of_another_shape_is_refused(name: str) -> None:
    index = next(i for i, (family, _) in enumerate(CONFIGURATIONS) if family == name)
    fast, _ = both(index)
    pixels = np.ascontiguousarray(NOISE[:90, :170])
    arrays = materialise(fast, pixels)
    with pytest.raises(RuntimeError, match="shape"):
        fast.write(pixels, arrays | {"pixel_values": arrays["pixel_values"][..., :-1]})


def test_a_difference_is_found_and_measured() -> None:
    fast, reference = both(0)
    pixels = np.ascontiguousarray(NOISE[:56, :84])
    assert same(fast, reference, pixels)
    assert difference(fast, reference, pixels) == 0.0
    dark, _ = both(4)  # the same without normalising, and another filter
    assert not same(dark, reference, pixels)
    assert 0.5 < difference(dark, reference, pixels) < 5.0
    other_shape, _ = both(3)
    assert difference(other_shape, reference, pixels) == float("inf")


def test_memory_beside_the_slot_is_a_tenth_of_the_features() -> None:
    fast, _ = both(0)
    pixels = np.asarray(PHOTOS[0].resize((1288, 966)))
    arrays = materialise(fast, pixels)
    tracemalloc.start()
    fast.write(pixels, arrays)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < arrays["pixel_values"].nbytes / 10


@pytest.mark.parametrize("index", range(len(CONFIGURATIONS)), ids=str)
def test_bytes_written_are_counted_and_are_the_features(index: int) -> None:
    """Invariant 2: every byte of the slot's arrays once, padding included, by whatever processor."""
    for width, height in ((113, 64), (61, 150), (310, 230)):
        pixels = np.ascontiguousarray(np.broadcast_to(np.uint8(7), (height, width, 3)))
        for processor in both(index):
            try:
                layout = processor.layout(width, height)
            except RequestError:
                continue
            arrays = views(layout.tensors, memoryview(bytearray(layout.length_bytes)))
            assert processor.write(pixels, arrays) == sum(array.nbytes for array in arrays.values())
