"""A family without a fast path: transformers itself where `--generic` allows it, else a refusal that names the flag."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmplane.config import Config
from mmplane.core.records import Clip
from mmplane.features.choice import choose
from mmplane.features.reference.huggingface import HuggingFaceImageProcessor
from mmplane.features.reference.parity import materialise
from mmplane.features.select import image_processor
from mutation import Mutant, check_it_is_killed

from .checkpoints import FAMILIES, GENERIC

PIXELS = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)


def config(folder: str, **options: Any) -> Config:
    return Config(model="", model_folder=folder, served_name="", device="none", **options)


def test_without_the_flag_it_is_refused(tmp_path: Path) -> None:
    folder = GENERIC.write(tmp_path)
    with pytest.raises(ValueError, match=r"family without a fast path\. Start with --generic"):
        choose(config(folder, generic=False))


def test_with_the_flag_transformers_serves_and_there_are_no_bytes(tmp_path: Path) -> None:
    folder = GENERIC.write(tmp_path)
    processors = choose(config(folder))
    assert processors.encoding == "float32"  # `auto` would be uint8
    assert type(processors.for_images) is HuggingFaceImageProcessor
    theirs = materialise(HuggingFaceImageProcessor.load(folder), PIXELS)
    for name, array in materialise(processors.for_images, PIXELS).items():
        np.testing.assert_array_equal(array, theirs[name], strict=True)
    with pytest.raises(ValueError, match="uint8"):
        choose(config(folder, encoding="uint8"))


def test_the_flag_changes_nothing_where_a_fast_path_serves(tmp_path: Path) -> None:
    folder = FAMILIES["qwen2_5_vl"].write(tmp_path)
    one, other = (choose(config(folder, generic=generic)) for generic in (True, False))
    assert type(one.for_images) is type(other.for_images)
    assert one.fingerprint == other.fingerprint


def test_a_fast_path_that_differs_needs_the_flag(tmp_path: Path) -> None:
    folder = FAMILIES["qwen2_5_vl"].write(tmp_path)
    with pytest.raises(ValueError, match=r"differ from transformers' own here\. Start with --generic"):
        choose(config(folder, generic=False), {"image": "differs"})


def test_a_type_of_model_that_nobody_knows_is_not_asked_of_transformers(tmp_path: Path) -> None:
    folder = GENERIC.write(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vipllava"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmplane.features.reference.configuration.settings_of", lambda _: pytest.fail("asked"))
        with pytest.raises(ValueError, match=r"no family here knows its type of model\. Start with --generic"):
            choose(config(folder, generic=False))
    assert type(choose(config(folder)).for_images) is HuggingFaceImageProcessor


def test_a_server_refuses_prompts_that_number_their_images(tmp_path: Path) -> None:
    folder = FAMILIES["minicpm_v"].write(tmp_path)
    with pytest.raises(ValueError, match="number their images"):
        choose(config(folder))
    assert choose(config(folder, kind="sidecar", generic=False)).for_images.placeholder_id
    choose(config(FAMILIES["minicpm_v"].write(tmp_path, use_image_id=False)))


def test_a_server_takes_no_clips_whose_frames_are_images_in_the_prompt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = FAMILIES["glm4v"].write(tmp_path)
    assert choose(config(folder)).video is None
    assert "clips are not served: their frames stand in the prompt as images" in caplog.text
    clip = Clip(90, 70, 4, 2.0, (0, 2))
    assert choose(config(folder, kind="sidecar", generic=False)).for_clips.layout(clip).tensors


MUTANTS = [
    Mutant(
        "transformers is not loaded unasked",
        image_processor,
        "if not generic:",
        "if False:",
        test_without_the_flag_it_is_refused,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_mutants_are_killed(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
