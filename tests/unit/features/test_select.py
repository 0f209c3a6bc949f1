from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmplane.features.arithmetic import kernels
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.contract.image import ImageProcessor
from mmplane.features.families.fixed_size import FixedSizeImageProcessor
from mmplane.features.families.glm_v import GlmVImageProcessor
from mmplane.features.families.idefics3 import Idefics3ImageProcessor
from mmplane.features.families.internvl import InternVLImageProcessor
from mmplane.features.families.llava_next import LlavaNextImageProcessor
from mmplane.features.families.minicpm_v import MiniCPMVImageProcessor
from mmplane.features.families.names import KNOWN
from mmplane.features.families.paddle_ocr import PaddleOcrImageProcessor
from mmplane.features.families.pixtral import PixtralImageProcessor
from mmplane.features.families.qwen_vl import QwenVLImageProcessor
from mmplane.features.reference import parity
from mmplane.features.reference.huggingface import HuggingFaceImageProcessor
from mmplane.features.reference.parity import materialise
from mmplane.features.select import fast_images, image_processor

from .checkpoints import FAMILIES

CHOSEN: dict[str, type[ImageProcessor]] = {
    "qwen2_5_vl": QwenVLImageProcessor,
    "qwen3_vl": QwenVLImageProcessor,
    "llava": FixedSizeImageProcessor,
    "llava_padded": FixedSizeImageProcessor,
    "llava_siglip": FixedSizeImageProcessor,
    "gemma3": FixedSizeImageProcessor,
    "internvl": InternVLImageProcessor,
    "llava_next": LlavaNextImageProcessor,
    "llava_onevision": LlavaNextImageProcessor,
    "idefics3": Idefics3ImageProcessor,
    "smolvlm": Idefics3ImageProcessor,
    "glm4v": GlmVImageProcessor,
    "glm46v": GlmVImageProcessor,
    "paddle_ocr": PaddleOcrImageProcessor,
    "minicpm_v": MiniCPMVImageProcessor,
}


@pytest.mark.parametrize("name", CHOSEN)
def test_each_family_gets_its_own(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = FAMILIES[name].write(tmp_path)
    fast, generic = image_processor(folder), image_processor(folder, fast=False)
    assert type(fast) is CHOSEN[name]
    assert type(generic) is HuggingFaceImageProcessor
    assert fast.fingerprint == generic.fingerprint
    assert fast.placeholder_id == generic.placeholder_id
    assert generic.layout_is_cheap is False
    assert fast.layout_is_cheap is True
    fast.warm()
    generic.warm()
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("qwen2_5_vl", {"do_resize": False}),
        ("qwen2_5_vl", {"resample": 0}),
        ("llava", {"do_rescale": False, "do_normalize": False}),
        ("llava", {"do_center_crop": False}),
        ("llava", {"resample": 4}),
        ("llava", {"do_pad": True, "pad_size": {"height": 60, "width": 60}}),
        ("llava_next", {"image_grid_pinpoints": [[56, 100]]}),
        ("llava_next", {"crop_size": 28}),
        ("internvl", {"do_resize": False}),
        ("glm4v", {"do_resize": False}),
        ("idefics3", {"do_pad": False}),
        ("idefics3", {"do_resize": False}),
        ("idefics3", {"size": {"height": 64, "width": 64}}),
        ("paddle_ocr", {"patch_size": 4}),
        ("minicpm_v", {"do_resize": False}),
    ],
)
def test_other_configurations_take_the_generic_path(name: str, changes: dict[str, object], tmp_path: Path) -> None:
    assert type(image_processor(FAMILIES[name].write(tmp_path, **changes))) is HuggingFaceImageProcessor


def test_gemma3_with_pan_and_scan_takes_the_generic_path(tmp_path: Path) -> None:
    checkpoint = ImageCheckpoint.load(FAMILIES["gemma3"].write(tmp_path), KNOWN)
    assert FixedSizeImageProcessor.serves(checkpoint)
    scanning = replace(checkpoint, options={**checkpoint.options, "do_pan_and_scan": True})
    assert not FixedSizeImageProcessor.serves(scanning)


def test_prompts_that_transformers_has_with_torchvision_alone_are_compared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Pixtral's Processor class asks for torchvision and needs none for images: the bits of Pillow are served."""
    processor = image_processor(FAMILIES["pixtral"].write(tmp_path))
    assert type(processor) is PixtralImageProcessor
    assert "could not be compared" not in caplog.text
    assert processor.fingerprint == image_processor(str(tmp_path), verdict="same").fingerprint


def test_a_family_of_torchvision_alone_is_refused_where_nobody_can_compare(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Install torch and torchvision") as refused:
        image_processor(FAMILIES["llama4"].write(tmp_path))
    assert "--backend" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("llama4", {"do_normalize": False}),
        ("llama4", {"size": {"height": 56, "width": 28}}),
        ("kimi_vl", {"size": {"max_height": 8, "max_width": 9}}),
        ("kimi_vl", {"patch_size": 4}),
        ("phi4_multimodal", {"resample": 2}),
        ("phi4_multimodal", {"size": {"height": 56, "width": 28}}),
        ("phi4_multimodal", {"do_rescale": False, "do_normalize": False}),
        ("pixtral", {"do_center_crop": True, "crop_size": 32}),
        ("llava_onevision", {"crop_size": 28}),
    ],
)
def test_other_configurations_have_no_fast_path(name: str, changes: dict[str, object], tmp_path: Path) -> None:
    assert fast_images(FAMILIES[name].write(tmp_path / "own")) is not None
    assert fast_images(FAMILIES[name].write(tmp_path / "other", **changes)) is None


@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava", "internvl"])
def test_one_wrong_bit_brings_the_generic_path_and_a_warning(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = kernels.weights

    def off_by_one(*sizes: int) -> object:
        first, count, fixed = weights(*sizes)
        return first, count, fixed + np.int32(1 << 12)

    folder = FAMILIES[name].write(tmp_path)
    monkeypatch.setattr(kernels, "weights", off_by_one)
    with caplog.at_level(logging.WARNING):
        assert type(image_processor(folder)) is HuggingFaceImageProcessor
    assert "differ" in caplog.text
    monkeypatch.setattr(kernels, "weights", weights)
    assert type(image_processor(folder)) is CHOSEN[name]


def test_another_layout_brings_the_generic_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = FAMILIES["qwen2_5_vl"].write(tmp_path)
    monkeypatch.setattr(parity, "PARITY_SIZES", ((2000, 3),))  # a size that the model refuses
    assert type(image_processor(folder)) is HuggingFaceImageProcessor


def test_an_encoding_is_the_processors_from_the_start(tmp_path: Path) -> None:
    folder = FAMILIES["qwen2_5_vl"].write(tmp_path)
    pixels = np.zeros((70, 80, 3), np.uint8)
    lengths = {}
    for encoding in ("float32", "bfloat16", "uint8"):
        processor = image_processor(folder, encoding=encoding)
        lengths[encoding] = materialise(processor, pixels)["pixel_values"].nbytes
    assert lengths["float32"] == 2 * lengths["bfloat16"] == 8 * lengths["uint8"]
    with pytest.raises(ValueError, match="uint8"):
        image_processor(folder, fast=False, encoding="uint8")
