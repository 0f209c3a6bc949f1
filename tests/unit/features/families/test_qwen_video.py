"""Videos: the bits of transformers' own video processors, and of the same arithmetic in torch alone."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images
from transformers import AutoImageProcessor

from features.checkpoints import FAMILIES, Family
from mmplane.core.errors import RequestError
from mmplane.core.records import Clip
from mmplane.features.arithmetic import kernels
from mmplane.features.arithmetic.encodings import ENCODINGS, Encoding, cast, dtype_of
from mmplane.features.arithmetic.kernels import BICUBIC, BILINEAR
from mmplane.features.arithmetic.resize import Resize
from mmplane.features.checkpoint import defaults
from mmplane.features.checkpoint.video_rules import RULES
from mmplane.features.contract.arrays import views
from mmplane.features.contract.video import VIDEO_FEATURES
from mmplane.features.families.qwen_video import QwenVideoProcessor
from mmplane.features.reference.parity import resizes_as_torch
from mmplane.features.reference.torch_frames import torch_bands
from mmplane.features.select import video_processor
from torchvision_reference import Reference

TEXT = "a<|vision_start|><|video_pad|><|vision_end|>b"
GLM_TEXT = "a<|begin_of_video|><|video|><|end_of_video|>b"
PHOTO = load_sample_images().images[0]
NOISE = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
SMALL = {"size": {"shortest_edge": 28 * 28 * 4, "longest_edge": 28 * 28 * 60}}

FOLDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("qwen2_vl", {"video_processor_type": "Qwen2VLVideoProcessor", **SMALL}),
    "qwen2.5": ("qwen2_5_vl", {"video_processor_type": "Qwen2VLVideoProcessor", **SMALL}),
    "qwen2.5, as published": ("qwen2_5_vl", {"min_pixels": 3136, "max_pixels": 28 * 28 * 100}),
    "qwen2.5, sampled": ("qwen2_5_vl", {"do_sample_frames": True, "fps": 2.0, **SMALL}),
    "qwen2.5, so many": ("qwen2_5_vl", {"do_sample_frames": True, "num_frames": 6, **SMALL}),
    "qwen2.5, capped": ("qwen2_5_vl", {"cap_pixels_per_frame": True, "max_video_tokens": 40, **SMALL}),
    "qwen2.5, only rescaled": ("qwen2_5_vl", {"do_normalize": False, **SMALL}),
    "qwen2.5, only normalised": ("qwen2_5_vl", {"do_rescale": False, **SMALL}),
    "qwen2.5, bilinear, moments of 3": ("qwen2_5_vl", {"resample": 2, "temporal_patch_size": 3, **SMALL}),
    "qwen3": ("qwen3_vl", {"video_processor_type": "Qwen3VLVideoProcessor"}),
    "qwen3, small": (
        "qwen3_vl",
        {"video_processor_type": "Qwen3VLVideoProcessor", "size": {"shortest_edge": 4096, "longest_edge": 90000}},
    ),
    "qwen3, capped": (
        "qwen3_vl",
        {"cap_pixels_per_frame": True, "size": {"shortest_edge": 4096, "longest_edge": 300000}, "max_video_tokens": 9},
    ),
    "glm4v": ("glm4v", {"video_processor_type": "Glm4vVideoProcessor", **SMALL}),
    "glm4v, long": ("glm4v", {"video_processor_type": "Glm4vVideoProcessor", "max_duration": 1, **SMALL}),
    "glm4v, a frame a second": ("glm4v", {"video_processor_type": "Glm4vVideoProcessor", "fps": 1, **SMALL}),
    "glm4v, as they come": (
        "glm4v",
        {"video_processor_type": "Glm4vVideoProcessor", "do_sample_frames": False, **SMALL},
    ),
    "glm46v": ("glm46v", {"video_processor_type": "Glm46VVideoProcessor", **SMALL}),
    "qwen3, as they come": ("qwen3_vl", {"do_sample_frames": False, "video_processor_type": "Qwen3VLVideoProcessor"}),
}

CLIPS = {
    "a photograph that moves": (np.stack([PHOTO[i : i + 200, 2 * i : 2 * i + 310] for i in range(0, 60, 6)]), 8.0),
    "odd": (np.stack([NOISE[i : i + 90, i : i + 130] for i in range(7)]), 3.0),
    "fits as it is": (np.stack([NOISE[i : i + 112, i : i + 168] for i in range(12)]), 29.97),
    "tall": (np.stack([NOISE[:250, i : i + 40] for i in range(5)]), 1.0),
    "no rate": (np.stack([NOISE[i : i + 60, :77] for i in range(9)]), None),
}


def write(name: str, folder: Path) -> str:
    family, changes = FOLDERS[name]
    base = FAMILIES["qwen2_5_vl" if family == "qwen2_vl" else family]
    rules = {"processor_class": "Qwen2VLProcessor"} if family == "qwen2_vl" else base.processor
    written = Family(base.preprocessor, rules, family, base.special).write(folder)
    shared = {"cap_pixels_per_frame": False}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(shared | changes))
    return written


def clip_of(processor: QwenVideoProcessor, frames: Any, fps: float | None) -> Clip:
    return Clip(frames.shape[2], frames.shape[1], len(frames), fps, processor.sample(len(frames), fps))


def materialise(processor: QwenVideoProcessor, frames: Any, clip: Clip) -> dict[str, Any]:
    layout = processor.layout(clip)
    arrays = views(layout.tensors, memoryview(bytearray(b"\xaa" * layout.length_bytes)))
    processor.write((frames[i] for i in clip.indices), clip, arrays)
    return dict(arrays)


def ids_of(processor: QwenVideoProcessor, clip: Clip, text: str) -> list[int]:
    vocabulary = processor._checkpoint.vocabulary
    ids: list[int] = []
    for token in vocabulary.ids(text):
        runs = processor.layout(clip).expansion if token == processor.placeholder_id else ((token, 1),)
        ids += [expanded for expanded, count in runs for _ in range(count)]
    return ids


@pytest.mark.parametrize("name", FOLDERS)
def test_transformers_own(name: str, tmp_path: Path, reference: Reference) -> None:
    folder = write(name, tmp_path)
    processor, compared = video_processor(folder), 0
    text = GLM_TEXT if name.startswith("glm") else TEXT
    for frames, fps in CLIPS.values():
        metadata = {"total_num_frames": len(frames), "fps": fps, "frames_indices": list(range(len(frames)))}
        if fps is not None:
            metadata["duration"] = len(frames) / fps
        theirs = reference.clip(folder, frames, text, metadata)
        if "error" in theirs:
            with pytest.raises(RequestError):
                materialise(processor, frames, clip_of(processor, frames, fps))
            continue
        clip = clip_of(processor, frames, fps)
        ours = materialise(processor, frames, clip)
        assert ids_of(processor, clip, text) == theirs["input_ids"][0].tolist()
        for tensor in ("pixel_values_videos", "video_grid_thw"):
            np.testing.assert_array_equal(ours[tensor], theirs[tensor], strict=True)
        assert ("second_per_grid_ts" in ours) == ("second_per_grid_ts" in theirs)
        if "second_per_grid_ts" in theirs:  # a list of Python floats, which torch.tensor makes float32
            np.testing.assert_array_equal(ours["second_per_grid_ts"], theirs["second_per_grid_ts"].astype(np.float32))
        compared += 1
    assert compared >= 3


def test_the_classes_defaults_are_ours(tmp_path: Path, reference: Reference) -> None:
    """Where a configuration says nothing: whole clips through both classes, at their own sizes."""
    for kind, family, text in (
        ("Qwen2VLVideoProcessor", "qwen2_5_vl", TEXT),
        ("Qwen3VLVideoProcessor", "qwen3_vl", TEXT),
        ("Glm4vVideoProcessor", "glm4v", GLM_TEXT),
        ("Glm46VVideoProcessor", "glm46v", GLM_TEXT),
    ):
        folder = tmp_path / family
        FAMILIES[family].write(folder)
        (folder / "video_preprocessor_config.json").write_text(json.dumps({"video_processor_type": kind}))
        processor = video_processor(str(folder))
        assert processor._checkpoint.options == defaults.CLIPS[kind]
        frames, fps = np.ascontiguousarray(np.broadcast_to(PHOTO[:203, :310], (9, 203, 310, 3))), 4.0
        metadata = {"total_num_frames": 9, "fps": fps, "frames_indices": list(range(9)), "duration": 9 / fps}
        theirs = reference.clip(str(folder), frames, text, metadata)
        ours = materialise(processor, frames, clip_of(processor, frames, fps))
        np.testing.assert_array_equal(ours[VIDEO_FEATURES], theirs[VIDEO_FEATURES], strict=True)


ARGUMENTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("qwen2_5_vl", {"min_pixels": 28 * 28, "max_pixels": 28 * 28 * 4}, {}),
    ("qwen2_5_vl", {"size": {"shortest_edge": 28 * 28 * 2, "longest_edge": 28 * 28 * 3}, "do_normalize": False}, {}),
    ("qwen2_5_vl", {"do_sample_frames": True, "num_frames": 6}, {}),
    ("qwen3_vl", {"do_sample_frames": True, "num_frames": 3}, {"fps": None}),
    ("qwen3_vl", {"size": {"shortest_edge": 4096, "longest_edge": 32 * 32 * 40}, "do_sample_frames": False}, {}),
]
"""Family, arguments, and what transformers must be given beside them: it takes `num_frames` without `fps` alone."""


@pytest.mark.parametrize(("family", "arguments", "beside"), ARGUMENTS, ids=str)
def test_arguments_of_one_call(
    family: str, arguments: dict[str, Any], beside: dict[str, Any], tmp_path: Path, reference: Reference
) -> None:
    kind = "Qwen2VLVideoProcessor" if family == "qwen2_5_vl" else "Qwen3VLVideoProcessor"
    folder = FAMILIES[family].write(tmp_path)
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps({"video_processor_type": kind}))
    own = video_processor(folder)
    fast = own.adjusted(arguments)
    frames = np.ascontiguousarray(NOISE[None, :100, :140] >> np.arange(9, dtype=np.uint8)[:, None, None, None] % 3)
    metadata = {"total_num_frames": 9, "fps": 4.0, "frames_indices": list(range(9))}
    theirs = reference.clip(folder, frames, TEXT, metadata | {"arguments": arguments | beside})
    ours = materialise(fast, frames, clip_of(fast, frames, 4.0))
    np.testing.assert_array_equal(ours[VIDEO_FEATURES], theirs[VIDEO_FEATURES], strict=True)
    np.testing.assert_array_equal(ours["video_grid_thw"], theirs["video_grid_thw"], strict=True)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"max_frames": 3}, "takes no max_frames"),
        ({"min_pixels": 3}, "takes no min_pixels"),
        ({"size": {"longest_edge": 9999}}, "not built for these arguments: size"),
        ({"do_resize": False}, "not built for these arguments: do_resize"),
    ],
    ids=str,
)
def test_arguments_that_the_class_does_not_use_are_refused(arguments: dict[str, Any], why: str, tmp_path: Path) -> None:
    folder = FAMILIES["qwen3_vl"].write(tmp_path)
    (tmp_path / "video_preprocessor_config.json").write_text('{"video_processor_type": "Qwen3VLVideoProcessor"}')
    with pytest.raises(ValueError, match=why):
        video_processor(folder).adjusted(arguments)


@pytest.mark.parametrize("name", FOLDERS)
def test_torch_alone_gives_the_same(name: str, tmp_path: Path) -> None:
    folder = write(name, tmp_path)
    fast, slow = video_processor(folder), video_processor(folder, fast=False)
    assert fast.fingerprint == slow.fingerprint
    for frames, fps in CLIPS.values():
        try:
            clip = clip_of(fast, frames, fps)
        except RequestError:
            continue
        ours, theirs = materialise(fast, frames, clip), materialise(slow, frames, clip)
        for tensor, array in theirs.items():
            np.testing.assert_array_equal(ours[tensor], array, strict=True)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(*[st.integers(1, 300)] * 4, st.sampled_from([BICUBIC, BILINEAR]))
def test_resize_as_torch(width: int, height: int, to_width: int, to_height: int, kind: int) -> None:
    pixels = np.ascontiguousarray(NOISE[:height, :width])
    resize = Resize.whole(to_width, to_height, kind, as_torch=True)
    ((_, theirs),) = torch_bands(resize, pixels, 0)
    ours = np.concatenate([planes.copy() for _, planes in resize.bands(pixels, 64)], axis=1)
    np.testing.assert_array_equal(ours, theirs, strict=True)


def test_4k_as_torch() -> None:
    pixels = np.asarray(Image.fromarray(PHOTO).resize((3840, 2160)))
    resize = Resize.whole(1260, 700, BICUBIC, as_torch=True)
    ((_, theirs),) = torch_bands(resize, pixels, 0)
    ours = np.concatenate([planes.copy() for _, planes in resize.bands(pixels, 64)], axis=1)
    np.testing.assert_array_equal(ours, theirs, strict=True)


def test_torch_and_pil_differ_by_little(tmp_path: Path) -> None:
    """A still clip against the image processor's PIL arithmetic, in values of about -2 to 2.

    An 8-bit step is 0.015. torch's weights are coarser (mostly one step), and where PIL goes down before across, an
    intermediate row is clipped elsewhere (up to six here). Without a resize only the fused normalising differs.
    """
    folder = write("qwen2.5, as published", tmp_path)
    images = AutoImageProcessor.from_pretrained(folder, backend="pil", min_pixels=3136, max_pixels=28 * 28 * 100)
    for (height, width), limit in {(203, 310): 0.15, (200, 310): 0.02, (112, 168): 5e-7}.items():
        frames = np.stack([PHOTO[:height, :width]] * 2)
        processor = video_processor(folder)
        ours = materialise(processor, frames, clip_of(processor, frames, 2.0))[VIDEO_FEATURES]
        pil = images([Image.fromarray(frames[0])], return_tensors="np")["pixel_values"]
        assert float(np.abs(ours - pil).max()) < limit


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_hold_the_same_values(encoding: Encoding, tmp_path: Path) -> None:
    folder = write("qwen2.5", tmp_path)
    frames, fps = CLIPS["odd"]
    exact_processor, processor = video_processor(folder), video_processor(folder, encoding=encoding)
    clip = clip_of(processor, frames, fps)
    exact = materialise(exact_processor, frames, clip)[VIDEO_FEATURES]
    stored = materialise(processor, frames, clip)[VIDEO_FEATURES]
    assert processor.layout(clip).tensors[0].dtype == dtype_of(encoding)
    if stored.dtype == np.uint8:  # a clip has no copies
        rebuilt = np.empty_like(exact)
        processor.byte_form.rebuild(stored, rebuilt)
        np.testing.assert_array_equal(rebuilt, exact, strict=True)
        assert exact.nbytes == 4 * stored.nbytes
    else:
        np.testing.assert_array_equal(stored, cast(exact, encoding), strict=True)


def test_a_clip_that_is_not_what_its_header_said(tmp_path: Path) -> None:
    processor = video_processor(write("qwen2.5", tmp_path))
    processor.warm()
    frames, fps = CLIPS["odd"]
    clip = clip_of(processor, frames, fps)
    arrays = materialise(processor, frames, clip)
    for wrong in (frames[:-1], np.concatenate([frames, frames[:1]]), frames[:, :-1]):
        with pytest.raises(ValueError):
            processor.write(wrong, clip, arrays)
    with pytest.raises(RuntimeError, match="shape"):
        processor.write(frames, clip, arrays | {VIDEO_FEATURES: arrays[VIDEO_FEATURES][:, :-1]})


def test_clips_that_no_model_takes(tmp_path: Path) -> None:
    two, three = video_processor(write("qwen2", tmp_path / "2")), video_processor(write("qwen3", tmp_path / "3"))
    for processor, clip in (
        (two, Clip(4000, 3, 4, 2.0, (0, 1, 2, 3))),
        (two, Clip(100, 100, 0, 2.0, ())),
        (three, Clip(100, 100, 1, 2.0, (0,))),
        (three, Clip(100, 100, 0, 2.0, ())),
    ):
        with pytest.raises(RequestError) as caught:
            processor.layout(clip)
        assert caught.value.status == 400


def test_one_wrong_bit_brings_torch_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = kernels.torch_weights

    def off_by_one(*sizes: int) -> object:
        first, count, fixed = right(*sizes)
        return first, count, fixed + np.int32(1 << 12)

    monkeypatch.setattr(kernels, "torch_weights", off_by_one)
    assert not resizes_as_torch(BICUBIC)
    with caplog.at_level(logging.WARNING):
        processor = video_processor(write("qwen2", tmp_path))
    assert "differ" in caplog.text
    assert processor._bands is torch_bands


def test_other_families_and_configurations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="families"):
        video_processor(FAMILIES["llava"].write(tmp_path / "llava"))
    folder = write("qwen2", tmp_path)
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps({"do_resize": False}))
    with pytest.raises(ValueError, match="not built"):
        video_processor(folder)


def test_frames_are_spread_as_torch_does() -> None:
    options = {"temporal_patch_size": 2, "max_frames": 768, "min_frames": 4, "fps": None}
    for total in range(2, 700, 3):
        for wanted in range(2, min(total, 99) + 1, 2):
            expected = tuple(torch.arange(0, total, total / wanted).int().tolist())
            assert RULES["Qwen2VLVideoProcessor"].sample(options | {"num_frames": wanted}, total, None) == expected


@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
def test_fewer_frames_by_the_checkpoints_own_rules(name: str, tmp_path: Path) -> None:
    """As transformers with `num_frames`: never more than the checkpoint takes, in whole moments."""
    processor = video_processor(write(name, tmp_path))
    own = processor.sample(100, 10.0)
    assert processor.sample(100, 10.0, frames_max=1000, fps_max=1000.0) == own
    for limits, count in (
        ({"frames_max": 8}, 8),
        ({"frames_max": 7}, 6),
        ({"frames_max": 1}, 2),
        ({"fps_max": 0.4}, 4),
    ):
        fewer = processor.sample(100, 10.0, **limits)
        expected = RULES[processor._checkpoint.kind].sample(
            {**processor._checkpoint.options, "num_frames": count, "fps": None}, 100, 10.0
        )
        assert fewer == expected
        assert len(fewer) == count
    assert processor.sample(100, 10.0, frames_max=8, fps_max=0.4) == processor.sample(100, 10.0, frames_max=4)
    assert len(processor.sample(48, None, fps_max=1.0)) == 2  # who does not say has 24 frames a second


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_bytes_written_are_counted_and_are_the_features(encoding: Encoding, tmp_path: Path) -> None:
    """Invariant 2: every byte of the slot's arrays once, also where the last moment lacks a frame."""
    processor = video_processor(write("qwen2.5", tmp_path), encoding=encoding)
    for count in (4, 5):
        frames = np.ascontiguousarray(np.broadcast_to(PHOTO[:90, :120], (count, 90, 120, 3)))
        clip = clip_of(processor, frames, 4.0)
        layout = processor.layout(clip)
        arrays = views(layout.tensors, memoryview(bytearray(layout.length_bytes)))
        assert processor.write(frames, clip, arrays) == sum(array.nbytes for array in arrays.values())
