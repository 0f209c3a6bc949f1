"""Arguments of one call give the bits that transformers gives with them, or are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmplane.core.errors import RequestError
from mmplane.features.adjusted import adjusted
from mmplane.features.choice import Processors
from mmplane.features.families.table import TableImageProcessor
from mmplane.features.reference.parity import materialise, same
from mmplane.features.select import image_processor

from .checkpoints import FAMILIES, GENERIC

NOISE = np.random.default_rng(0).integers(0, 256, (150, 210, 3), dtype=np.uint8)

TAKEN: list[tuple[str, dict[str, Any]]] = [
    ("qwen2_5_vl", {"max_pixels": 28 * 28 * 4}),
    ("qwen2_5_vl", {"min_pixels": 28 * 28 * 200, "max_pixels": 28 * 28 * 300}),
    ("qwen2_5_vl", {"size": {"shortest_edge": 28 * 28 * 9, "longest_edge": 28 * 28 * 12}}),
    ("qwen3_vl", {"size": {"shortest_edge": 4096, "longest_edge": 16384}, "min_pixels": 64, "do_normalize": False}),
    ("qwen2_5_vl", {"image_mean": [0.5, 0.25, 0.125], "image_std": [1.0, 0.5, 0.25], "rescale_factor": 0.0078125}),
    ("llava", {"size": {"shortest_edge": 40}, "crop_size": {"height": 50, "width": 44}}),
    ("llava", {"do_center_crop": False, "size": {"height": 30, "width": 62}}),
    ("llava_padded", {"do_pad": False}),
    ("llava_siglip", {"size": {"height": 42, "width": 70}, "do_rescale": False}),
    ("gemma3", {"size": {"height": 84, "width": 84}}),
    ("internvl", {"crop_to_patches": False}),
    ("internvl", {"min_patches": 2, "max_patches": 5, "size": {"height": 28, "width": 28}}),
    ("llava_next", {"do_normalize": False}),
    ("idefics3", {"do_normalize": False}),
    ("glm4v", {"size": {"shortest_edge": 28 * 28 * 2, "longest_edge": 28 * 28 * 12}}),
    ("paddle_ocr", {"max_pixels": 28 * 28 * 6}),
    ("minicpm_v", {"do_normalize": False}),
    ("llava_onevision", {"size": {"height": 28, "width": 28}}),
    ("llava_onevision", {"several": True}),
]


@pytest.mark.filterwarnings("ignore:Passing `min_pixels`:FutureWarning")
@pytest.mark.parametrize(("family", "arguments"), TAKEN, ids=str)
def test_the_bits_are_those_of_a_call_of_transformers(family: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    folder = FAMILIES[family].write(tmp_path)
    own, reference = image_processor(folder), image_processor(folder, fast=False)
    fast = adjusted(Processors("float32", own), "image", json.dumps(arguments)).for_images
    assert type(fast) is type(own)
    assert same(fast, reference.adjusted(arguments), NOISE)
    plain = materialise(own, NOISE)["pixel_values"]
    assert plain.tobytes() != materialise(fast, NOISE)["pixel_values"].tobytes(), "they change something"


MODELS = {**FAMILIES, "generic": GENERIC}

REFUSED: list[tuple[str, str, str]] = [
    ("qwen2_5_vl", '{"max_pixel": 3}', "unknown field `max_pixel`"),
    ("qwen2_5_vl", '{"patch_size": 16}', "unknown field `patch_size`"),
    ("qwen2_5_vl", '{"max_pixels": "many"}', r"Expected `int`, got `str` - at `\$.max_pixels`"),
    ("qwen2_5_vl", '{"max_pixels": 0}', "Expected `int` >= 1"),
    ("qwen2_5_vl", '{"max_pixels": null}', "got `null`"),
    ("qwen2_5_vl", '{"image_std": [0.0, 1, 1]}', "image_std must not be 0"),
    ("qwen2_5_vl", "[1]", "Expected `object`"),
    ("qwen2_5_vl", "{", "truncated"),
    ("qwen2_5_vl", '{"crop_to_patches": true}', "Qwen2VLImageProcessor takes no crop_to_patches: there are crop_size,"),
    ("qwen2_5_vl", '{"num_frames": 2}', "takes no num_frames"),
    ("qwen2_5_vl", '{"do_resize": false}', "not built for these arguments: do_resize"),
    ("qwen2_5_vl", '{"size": {"height": 56, "width": 56}}', "not built for these arguments: size"),
    ("qwen2_5_vl", '{"size": {"height": 56}}', "form"),
    ("llava", '{"max_pixels": 3000}', "takes no max_pixels"),
    ("llava", '{"size": {"longest_edge": 56}}', "not built for these arguments: size"),
    ("llava", '{"crop_size": {"height": 56}}', "form"),
    ("llava", '{"do_rescale": false, "do_normalize": false}', "not built"),
    ("idefics3", '{"num_frames": 2}', "takes no num_frames"),
    ("llama4", '{"max_pixels": 9}', "takes no max_pixels"),
    ("generic", '{"num_frames": 2}', "transformers refuses these arguments: num_frames"),
]


@pytest.mark.parametrize(("family", "arguments", "why"), REFUSED, ids=str)
def test_others_are_refused_by_name(family: str, arguments: str, why: str, tmp_path: Path) -> None:
    processors = Processors("float32", image_processor(MODELS[family].write(tmp_path), verdict="same"))
    with pytest.raises(RequestError, match=why) as refused:
        adjusted(processors, "image", arguments)
    assert (refused.value.status, refused.value.code) == (400, "invalid_option")


def test_without_arguments_they_are_the_same_and_with_them_they_are_made_once(tmp_path: Path) -> None:
    processors = Processors("uint8", image_processor(FAMILIES["qwen2_5_vl"].write(tmp_path), encoding="uint8"))
    assert adjusted(processors, "image", "") is processors
    few = adjusted(processors, "image", '{"max_pixels":6272}')
    assert few is adjusted(processors, "image", '{"max_pixels":6272}')
    assert isinstance(few.image, TableImageProcessor)
    assert few.image.layout(280, 280).tensors[0].dtype == "uint8"


def test_sounds_take_none() -> None:
    with pytest.raises(RequestError, match="takes no sounds"):
        adjusted(Processors("float32"), "audio", '{"do_pad": true}')
