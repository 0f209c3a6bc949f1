"""Clips of LLaVA-OneVision and InternVL: bit-equal to transformers, for 200 sizes, by every rule of choice and in every
encoding.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clips import decoded, real
from features.checkpoints import FAMILIES
from mmplane.config import Config
from mmplane.core.errors import RequestError
from mmplane.core.records import Ask, Clip
from mmplane.features.arithmetic import kernels
from mmplane.features.arithmetic.encodings import ENCODINGS, cast
from mmplane.features.choice import Processors, choose
from mmplane.features.contract.arrays import views
from mmplane.features.families.frame_video import FrameVideoProcessor
from mmplane.features.select import fast_paths, frame_processor
from mmplane.media.materialise import examine
from mmplane.media.materialise import materialise as materialise_file
from mutation import Mutant, check_it_is_killed
from torchvision_reference import Reference

KINDS = {"llava_onevision": "LlavaOnevisionVideoProcessor", "internvl": "InternVLVideoProcessor"}
SIZE = {"size": {"height": 56, "width": 70}}
NOISE = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
RANDOM = np.random.default_rng(1)
SIZES = [(int(RANDOM.integers(10, 290)), int(RANDOM.integers(10, 290))) for _ in range(198)] + [(56, 70), (56, 20)]
SO_MANY = {"do_sample_frames": True, "num_frames": 5, **SIZE}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "as published": {},
    "with nulls": {"do_center_crop": None, "crop_size": None, "do_sample_frames": None, "num_frames": None, **SIZE},
    "of the model's own class": {"video_processor_type": None, **SIZE},
    "bilinear": {"resample": 2, **SIZE},
    "only rescaled": {"do_normalize": False, **SIZE},
    "only normalised": {"do_rescale": False, **SIZE},
    "so many": SO_MANY,
    "by time": {"do_sample_frames": True, "fps": 3, **SIZE},
}
SHIFTED = {f"shifted by {shift}": {**SO_MANY, "initial_shift": shift} for shift in (False, 2, 1.5)}
CASES = [(family, name) for family in KINDS for name in CONFIGURATIONS] + [("internvl", name) for name in SHIFTED]
both = pytest.mark.parametrize("family", KINDS)


def write(folder: Path, family: str, **settings: Any) -> str:
    written = FAMILIES[family].write(folder)
    content = {"video_processor_type": KINDS[family], **settings}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(content))
    return written


def materialise(processor: FrameVideoProcessor, frames: Any, fps: float | None = None) -> Any:
    clip = Clip(frames.shape[2], frames.shape[1], len(frames), fps, processor.sample(len(frames), fps))
    layout = processor.layout(clip)
    arrays = views(layout.tensors, memoryview(bytearray(b"\xaa" * layout.length_bytes)))
    assert processor.write((frames[index] for index in clip.indices), clip, arrays) == layout.length_bytes
    (features,) = arrays.values()
    return features


def whole(family: str, theirs: Any) -> Any:
    """What the Processor makes of the video processor's array: InternVL's joins the frames of all clips."""
    return theirs[0] if family == "internvl" else theirs


@both
def test_two_hundred_sizes(family: str, tmp_path: Path, reference: Reference) -> None:
    folder = write(tmp_path, family, **SIZE)
    assert fast_paths(folder, ["video"]) == ["video"]
    processor = frame_processor(folder)
    clips = [np.stack([NOISE[i : i + height, i : i + width] for i in (0, 9)]) for height, width in SIZES]
    for frames, theirs in zip(clips, reference.clips(folder, clips), strict=True):
        np.testing.assert_array_equal(materialise(processor, frames), whole(family, theirs), strict=True)


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_real_clip_in_a_whole_call(family: str, name: str, tmp_path: Path, reference: Reference) -> None:
    folder = write(tmp_path, family, **(CONFIGURATIONS | SHIFTED)[name])
    frames, processor = decoded(real("carphone_pristine"))[0][:20], frame_processor(folder)
    theirs = reference.clip(folder, frames, "<video>", {"total_num_frames": 20, "fps": 10.0, "tensors": "pt"})
    layout = processor.layout(Clip(176, 144, 20, 10.0, processor.sample(20, 10.0)))
    ids = [token for token, count in layout.expansion for _ in range(count)]
    assert ids == theirs.pop("input_ids")[0].tolist()
    assert theirs.keys() == {"attention_mask", layout.tensors[0].name}
    features = materialise(processor, frames, 10.0)
    np.testing.assert_array_equal(features, theirs[layout.tensors[0].name], strict=True)


@pytest.mark.parametrize("shift", [True, False, 1, 2.5])
def test_frames_are_chosen_as_by_torch(shift: float, tmp_path: Path) -> None:
    folder = write(tmp_path, "internvl", do_sample_frames=True, num_frames=1, initial_shift=shift)
    processor, random = frame_processor(folder), np.random.default_rng(2)
    for total in (*range(3, 40), *random.integers(40, 20_000, 300).tolist()):
        wanted = int(random.integers(1, min(total, 100)))
        start = total / wanted / 2 if shift is True else shift
        theirs = torch.arange(start, total, total / wanted).int()  # by its rounding up to the frame after the last
        ours = processor.adjusted({"num_frames": wanted}).sample(total, None)
        assert list(ours) == theirs[theirs < total].tolist()


@both
def test_arguments_of_one_call(family: str, tmp_path: Path, reference: Reference) -> None:
    folder, frames = write(tmp_path, family, **SIZE), np.stack([NOISE[i : i + 90, i : i + 130] for i in range(7)])
    own = frame_processor(folder)
    for arguments in ({"size": {"height": 30, "width": 90}}, {"do_normalize": False}, {"image_mean": [0.1, 0.2, 0.3]}):
        ours = materialise(own.adjusted(arguments), frames)
        (theirs,) = reference.clips(folder, [frames], **arguments)
        np.testing.assert_array_equal(ours, whole(family, theirs), strict=True)
    chosen = {"llava_onevision": (0, 2, 4), "internvl": (1, 3, 5)}[family]
    assert own.adjusted({"do_sample_frames": True, "num_frames": 3}).sample(7, None) == chosen
    with pytest.raises(ValueError, match="takes no min_frames"):
        own.adjusted({"min_frames": 3})
    with pytest.raises(ValueError, match="not built for these arguments: size"):
        own.adjusted({"size": {"shortest_edge": 30}})


@both
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_hold_the_same_values(encoding: Any, family: str, tmp_path: Path) -> None:
    frames = np.stack([NOISE[i : i + 90, i : i + 130] for i in range(3)])
    processor = frame_processor(write(tmp_path, family, **SIZE), encoding=encoding)
    exact, stored = materialise(processor.recoded("float32"), frames), materialise(processor, frames)
    if stored.dtype == np.uint8:
        rebuilt = np.empty_like(exact)
        processor.byte_form.rebuild(stored, rebuilt)
        np.testing.assert_array_equal(rebuilt, exact, strict=True)
    else:
        np.testing.assert_array_equal(stored, cast(exact, encoding), strict=True)


def test_frames_are_chosen_within_limits(tmp_path: Path) -> None:
    plain = frame_processor(write(tmp_path / "plain", "llava_onevision"))
    assert plain.sample(5, None) == (0, 1, 2, 3, 4)
    assert plain.sample(20, 10.0, frames_max=4) == (0, 5, 10, 15)
    assert plain.sample(20, 10.0, fps_max=1.0) == (0, 10)
    middle = frame_processor(write(tmp_path / "middle", "internvl"))
    assert middle.sample(3, None) == (0, 1, 2)
    assert middle.sample(20, 10.0, frames_max=4) == (2, 7, 12, 17)


@pytest.mark.parametrize(
    ("family", "settings", "total", "fps"),
    [
        ("llava_onevision", {"num_frames": 9}, 8, 2.0),
        ("llava_onevision", {"fps": 3}, 8, None),
        ("llava_onevision", {"fps": 3}, 8, 2.0),
        ("internvl", {"num_frames": 9}, 8, 2.0),
        ("internvl", {"fps": 3}, 8, None),
        ("internvl", {"fps": 3}, 8, 2.0),
        ("internvl", {"fps": 3}, 1, 10.0),
        ("internvl", {}, 8, 2.0),
    ],
    ids=str,
)
def test_too_short_clips_are_refused(
    family: str, settings: dict[str, Any], total: int, fps: float | None, tmp_path: Path
) -> None:
    processor = frame_processor(write(tmp_path, family, do_sample_frames=True, **settings))
    with pytest.raises(RequestError) as caught:
        processor.sample(total, fps)
    assert caught.value.status == 400


def config(folder: str, **options: Any) -> Config:
    return Config(model="", model_folder=folder, served_name="", device="none", **options)


@both
def test_a_sidecar_serves_them_from_a_file_as_bytes_and_a_server_does_not(
    family: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, media = write(tmp_path, family, do_sample_frames=True, num_frames=4, **SIZE), real("carphone_pristine")
    processors: Processors = choose(config(folder, kind="sidecar", generic=False))
    recipe = examine(processors, media, Ask("video"))
    slot = memoryview(bytearray(recipe.layout.length_bytes))
    materialise_file(processors, media, recipe, slot)
    (stored,) = views(recipe.layout.tensors, slot).values()
    assert stored.shape[-4:] == (4, 3, 56, 70)
    assert recipe.clip is not None
    frames = decoded(media)[0][list(recipe.clip.indices)]
    exact = materialise(frame_processor(folder).adjusted({"do_sample_frames": False}), frames)
    rebuilt = np.empty_like(exact)
    processors.byte_forms["video"].rebuild(stored, rebuilt)
    np.testing.assert_array_equal(rebuilt, exact, strict=True)
    assert choose(config(folder)).video is None
    assert "clips of this family are only built for a sidecar" in caplog.text


@both
def test_clips_and_configurations_that_are_refused(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = frame_processor(write(tmp_path / "own", family, **SIZE))
    processor.warm()
    with pytest.raises(RequestError):
        processor.layout(Clip(100, 100, 0, None, ()))
    frames = np.stack([NOISE[:90, :130]] * 3)
    clip, features = Clip(130, 90, 3, None, (0, 1, 2)), materialise(processor, frames)
    name = processor.layout(clip).tensors[0].name
    for wrong in (frames[:-1], np.concatenate([frames, frames[:1]]), frames[:, :-1]):
        with pytest.raises(ValueError):
            processor.write(wrong, clip, {name: features})
    with pytest.raises(RuntimeError, match="shape"):
        processor.write(frames, clip, {name: features[..., :-1]})
    settings: list[dict[str, Any]] = [{"do_center_crop": True}, {"size": {"shortest_edge": 56}}, {"do_resize": False}]
    settings += [{"size": 56}, {"image_mean": None}]
    shifts: list[dict[str, Any]] = [{"initial_shift": -1}, {"initial_shift": None}]
    for number, each in enumerate(settings + (shifts if family == "internvl" else [])):
        with pytest.raises(ValueError, match="not built"):
            frame_processor(write(tmp_path / str(number), family, **each))
    right = kernels.torch_weights
    monkeypatch.setattr(kernels, "torch_weights", lambda *sizes: (*right(*sizes)[:2], right(*sizes)[2] + 1))
    with pytest.raises(ValueError, match="differ from torch's own"):
        frame_processor(write(tmp_path / "own", family, **SIZE))


MUTANTS = [
    Mutant(
        "frames are resized as by torch",
        FrameVideoProcessor.write,
        "as_torch=True",
        "as_torch=False",
        test_two_hundred_sizes,
        ("internvl",),
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_mutants_are_killed(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
