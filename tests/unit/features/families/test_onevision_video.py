"""Clips of LLaVA-OneVision: bit-equal to transformers, for 200 sizes, by every rule of choice and in every encoding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clips import decoded, real
from features.checkpoints import FAMILIES
from mmplane.config import Config
from mmplane.core.errors import RequestError
from mmplane.core.records import Ask, Clip
from mmplane.features.arithmetic import kernels
from mmplane.features.arithmetic.encodings import ENCODINGS, cast
from mmplane.features.choice import Processors, choose
from mmplane.features.contract.arrays import views
from mmplane.features.contract.video import VIDEO_FEATURES
from mmplane.features.families.onevision_video import OnevisionVideoProcessor
from mmplane.features.select import fast_paths, frame_processor
from mmplane.media.materialise import examine
from mmplane.media.materialise import materialise as materialise_file
from mutation import Mutant, check_it_is_killed
from torchvision_reference import Reference

KIND = {"video_processor_type": "LlavaOnevisionVideoProcessor"}
SIZE = {"size": {"height": 56, "width": 70}}
NOISE = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
RANDOM = np.random.default_rng(1)
SIZES = [(int(RANDOM.integers(10, 290)), int(RANDOM.integers(10, 290))) for _ in range(198)] + [(56, 70), (56, 20)]
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "as published": {},
    "bilinear": {"resample": 2, **SIZE},
    "only rescaled": {"do_normalize": False, **SIZE},
    "only normalised": {"do_rescale": False, **SIZE},
    "so many": {"do_sample_frames": True, "num_frames": 5, **SIZE},
    "by time": {"do_sample_frames": True, "fps": 3, **SIZE},
}


def write(folder: Path, **settings: Any) -> str:
    written = FAMILIES["llava_onevision"].write(folder)
    (folder / "video_preprocessor_config.json").write_text(json.dumps(KIND | settings))
    return written


def materialise(processor: OnevisionVideoProcessor, frames: Any, fps: float | None = None) -> Any:
    clip = Clip(frames.shape[2], frames.shape[1], len(frames), fps, processor.sample(len(frames), fps))
    layout = processor.layout(clip)
    arrays = views(layout.tensors, memoryview(bytearray(b"\xaa" * layout.length_bytes)))
    assert processor.write((frames[index] for index in clip.indices), clip, arrays) == layout.length_bytes
    return arrays[VIDEO_FEATURES]


def test_two_hundred_sizes(tmp_path: Path, reference: Reference) -> None:
    folder = write(tmp_path, **SIZE)
    assert fast_paths(folder, ["video"]) == ["video"]
    processor = frame_processor(folder)
    clips = [np.stack([NOISE[i : i + height, i : i + width] for i in (0, 9)]) for height, width in SIZES]
    for frames, theirs in zip(clips, reference.clips(folder, clips), strict=True):
        np.testing.assert_array_equal(materialise(processor, frames), theirs, strict=True)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_real_clip_in_a_whole_call(name: str, tmp_path: Path, reference: Reference) -> None:
    folder, frames = write(tmp_path, **CONFIGURATIONS[name]), decoded(real("carphone_pristine"))[0][:20]
    processor = frame_processor(folder)
    theirs = reference.clip(folder, frames, "<video>", {"total_num_frames": 20, "fps": 10.0})
    np.testing.assert_array_equal(materialise(processor, frames, 10.0), theirs[VIDEO_FEATURES], strict=True)
    taken = processor.sample(20, 10.0)
    ((token, count),) = processor.layout(Clip(176, 144, 20, 10.0, taken)).expansion
    assert [token] * count == theirs["input_ids"][0].tolist()
    assert token == processor.placeholder_id


def test_arguments_of_one_call(tmp_path: Path, reference: Reference) -> None:
    folder, frames = write(tmp_path, **SIZE), np.stack([NOISE[i : i + 90, i : i + 130] for i in range(7)])
    own = frame_processor(folder)
    for arguments in ({"size": {"height": 30, "width": 90}}, {"do_normalize": False}, {"image_mean": [0.1, 0.2, 0.3]}):
        ours = materialise(own.adjusted(arguments), frames)
        (theirs,) = reference.clips(folder, [frames], **arguments)
        np.testing.assert_array_equal(ours, theirs, strict=True)
    assert own.adjusted({"do_sample_frames": True, "num_frames": 3}).sample(7, None) == (0, 2, 4)
    with pytest.raises(ValueError, match="takes no min_frames"):
        own.adjusted({"min_frames": 3})
    with pytest.raises(ValueError, match="not built for these arguments: size"):
        own.adjusted({"size": {"shortest_edge": 30}})


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_hold_the_same_values(encoding: Any, tmp_path: Path) -> None:
    frames = np.stack([NOISE[i : i + 90, i : i + 130] for i in range(3)])
    processor = frame_processor(write(tmp_path, **SIZE), encoding=encoding)
    exact, stored = materialise(processor.recoded("float32"), frames), materialise(processor, frames)
    if stored.dtype == np.uint8:
        rebuilt = np.empty_like(exact)
        processor.byte_form.rebuild(stored, rebuilt)
        np.testing.assert_array_equal(rebuilt, exact, strict=True)
    else:
        np.testing.assert_array_equal(stored, cast(exact, encoding), strict=True)


def test_frames_are_chosen_within_limits(tmp_path: Path) -> None:
    plain = frame_processor(write(tmp_path / "plain"))
    assert plain.sample(5, None) == (0, 1, 2, 3, 4)
    assert plain.sample(20, 10.0, frames_max=4) == (0, 5, 10, 15)
    assert plain.sample(20, 10.0, fps_max=1.0) == (0, 10)
    few = frame_processor(write(tmp_path / "few", do_sample_frames=True, num_frames=9))
    timed = frame_processor(write(tmp_path / "timed", do_sample_frames=True, fps=3))
    for processor, total, fps in ((few, 8, 2.0), (timed, 8, None), (timed, 8, 2.0)):
        with pytest.raises(RequestError) as caught:
            processor.sample(total, fps)
        assert caught.value.status == 400


def config(folder: str, **options: Any) -> Config:
    return Config(model="", model_folder=folder, served_name="", device="none", **options)


def test_a_sidecar_serves_them_from_a_file_as_bytes_and_a_server_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, media = write(tmp_path, do_sample_frames=True, num_frames=4, **SIZE), real("carphone_pristine")
    processors: Processors = choose(config(folder, kind="sidecar", generic=False))
    recipe = examine(processors, media, Ask("video"))
    slot = memoryview(bytearray(recipe.layout.length_bytes))
    materialise_file(processors, media, recipe, slot)
    stored = views(recipe.layout.tensors, slot)[VIDEO_FEATURES]
    assert stored.shape == (1, 4, 3, 56, 70)
    assert recipe.clip is not None
    frames = decoded(media)[0][list(recipe.clip.indices)]
    exact = materialise(frame_processor(folder).adjusted({"do_sample_frames": False}), frames)
    rebuilt = np.empty_like(exact)
    processors.byte_forms["video"].rebuild(stored, rebuilt)
    np.testing.assert_array_equal(rebuilt, exact, strict=True)
    assert choose(config(folder)).video is None
    assert "clips of LLaVA-OneVision are only built for a sidecar" in caplog.text


def test_clips_and_configurations_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor = frame_processor(write(tmp_path / "own", **SIZE))
    processor.warm()
    with pytest.raises(RequestError):
        processor.layout(Clip(100, 100, 0, None, ()))
    frames = np.stack([NOISE[:90, :130]] * 3)
    clip, arrays = Clip(130, 90, 3, None, (0, 1, 2)), {VIDEO_FEATURES: materialise(processor, frames)}
    for wrong in (frames[:-1], np.concatenate([frames, frames[:1]]), frames[:, :-1]):
        with pytest.raises(ValueError):
            processor.write(wrong, clip, arrays)
    with pytest.raises(RuntimeError, match="shape"):
        processor.write(frames, clip, {VIDEO_FEATURES: arrays[VIDEO_FEATURES][..., :-1]})
    for number, settings in enumerate(
        ({"do_center_crop": True}, {"size": {"shortest_edge": 56}}, {"do_resize": False})
    ):
        with pytest.raises(ValueError, match="not built"):
            frame_processor(write(tmp_path / str(number), **settings))
    right = kernels.torch_weights
    monkeypatch.setattr(kernels, "torch_weights", lambda *sizes: (*right(*sizes)[:2], right(*sizes)[2] + 1))
    with pytest.raises(ValueError, match="differ from torch's own"):
        frame_processor(write(tmp_path / "own", **SIZE))


MUTANTS = [
    Mutant(
        "frames are resized as by torch",
        OnevisionVideoProcessor.write,
        "as_torch=True",
        "as_torch=False",
        test_two_hundred_sizes,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_mutants_are_killed(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
