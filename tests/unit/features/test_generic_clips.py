"""Clips of families without a fast path: what transformers' own Processor gives for all frames of a file."""

from __future__ import annotations

import json
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clips import decoded, encode, moving, real
from mmplane.config import Config
from mmplane.features.choice import choose
from mmplane.features.select import generic_clips
from torchvision_reference import Reference

from .checkpoints import FAMILIES, SPECIAL

ONEVISION = {"video_processor_type": "LlavaOnevisionVideoProcessor", "size": {"height": 56, "width": 56}}
INTERNVL = {"video_processor_type": "InternVLVideoProcessor", "size": {"height": 56, "width": 56}}
SMOLVLM = {
    "video_processor_type": "SmolVLMVideoProcessor",
    "size": {"longest_edge": 96},
    "max_image_size": {"longest_edge": 32},
    "num_frames": 5,
    "fps": 2,
}
FOLDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "llava_onevision": ("llava_onevision", ONEVISION),
    "llava_onevision, so many": ("llava_onevision", {**ONEVISION, "do_sample_frames": True, "num_frames": 7}),
    "llava_onevision, by time": ("llava_onevision", {**ONEVISION, "do_sample_frames": True, "fps": 3}),
    "llava_onevision, cropped": (
        "llava_onevision",
        {**ONEVISION, "do_center_crop": True, "crop_size": {"height": 50, "width": 44}},
    ),
    "internvl, so many": ("internvl", {**INTERNVL, "do_sample_frames": True, "num_frames": 6}),
    "internvl, from the middle": (
        "internvl",
        {**INTERNVL, "do_sample_frames": True, "num_frames": 4, "initial_shift": True},
    ),
    "smolvlm": ("smolvlm", {**SMOLVLM, "do_sample_frames": True}),
    "smolvlm, stretched": (
        "smolvlm",
        {**SMOLVLM, "do_sample_frames": True, "size": {"height": 48, "width": 64}},
    ),
}
CLIPS = {"it moves": lambda: encode(moving(26)), "a telephone in a car": lambda: real("carphone_pristine")}


def write(name: str, folder: Path) -> str:
    family, settings = FOLDERS[name]
    written = FAMILIES[family].write(folder)
    (folder / "video_preprocessor_config.json").write_text(json.dumps(settings))
    return written


def rate(media: bytes) -> float:
    _, times = decoded(media)
    return round((len(times) - 1) / (times[-1] - times[0]), 2)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("name", FOLDERS)
def test_transformers_own(name: str, clip: str, tmp_path: Path, reference: Reference) -> None:
    folder, media = write(name, tmp_path), CLIPS[clip]()
    frames, _ = decoded(media)
    ours = reference.generic_clip(folder, media)
    assert "error" not in ours, ours["error"]
    fps = rate(media)
    metadata = {"total_num_frames": len(frames), "fps": fps, "duration": len(frames) / fps, "tensors": "pt"}
    theirs = reference.clip(folder, frames, SPECIAL["video_token"], metadata)
    expansion = ours.pop("expansion").tolist()
    ids = list(chain.from_iterable(repeat(token, count) for token, count in expansion))
    assert ids == theirs.pop("input_ids")[0].tolist()
    theirs.pop("attention_mask")
    assert ours.keys() == theirs.keys()
    for tensor, array in theirs.items():
        np.testing.assert_array_equal(ours[tensor], array, strict=True)


@pytest.mark.parametrize(
    "arguments", [{"num_frames": 3}, {"do_sample_frames": False}, {"do_normalize": False}], ids=str
)
def test_arguments_of_one_call(arguments: dict[str, Any], tmp_path: Path, reference: Reference) -> None:
    folder, media = write("internvl, so many", tmp_path), CLIPS["it moves"]()
    frames, _ = decoded(media)
    ours = reference.generic_clip(folder, media, json.dumps(arguments))
    metadata = {"total_num_frames": len(frames), "fps": 10.0, "tensors": "pt", "arguments": arguments}
    theirs = reference.clip(folder, frames, SPECIAL["video_token"], metadata)
    np.testing.assert_array_equal(ours["pixel_values"], theirs["pixel_values"], strict=True)


def test_clips_that_are_refused(tmp_path: Path, reference: Reference) -> None:
    folder = write("internvl, so many", tmp_path / "few")
    said = reference.generic_clip(folder, encode(moving(4)))["refused"].item()
    assert said.startswith("transformers cannot choose frames of this clip: ")
    assert "`num_frames=6` exceeds `total_num_frames=4`" in said
    said = reference.generic_clip(folder, encode(moving(8)), '{"min_frames": 4}')["refused"].item()
    assert said.startswith("transformers refuses these arguments: ")
    assert "min_frames" in said
    folder = write("llava_onevision", tmp_path / "large")
    said = reference.generic_clip(folder, encode(moving(30, 1920, 1080)))["refused"].item()
    assert said == "the clip's frames have too many pixels: without a fast path, 60000000 in total"


def config(folder: str, **options: Any) -> Config:
    return Config(model="", model_folder=folder, served_name="", device="none", kind="sidecar", **options)


@pytest.mark.parametrize("name", ["llava_onevision, cropped", "smolvlm, stretched"])
def test_without_torchvision_images_alone_are_served(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(name, tmp_path)
    served = choose(config(folder))
    assert served.video is None
    assert served.for_images.placeholder_id
    assert "clips are not served: transformers cannot load their processor: AutoVideoProcessor requires" in caplog.text


def test_the_flag_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert choose(config(write("llava_onevision, cropped", tmp_path), generic=False)).video is None
    assert "this configuration of the video processor is not built. Start with --generic" in caplog.text


def test_torchvision_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="requires the Torchvision library"):
        generic_clips(write("smolvlm", tmp_path), "float32")
