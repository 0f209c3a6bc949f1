"""Clips of LLaVA-OneVision, InternVL and SmolVLM: bit-equal to transformers, for 200 sizes, by every rule of choice and
in every encoding.
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
from mmplane.features.checkpoint.words import in_words
from mmplane.features.choice import Processors, choose
from mmplane.features.contract.arrays import views
from mmplane.features.families.frame_video import FrameVideoProcessor
from mmplane.features.select import fast_paths, frame_processor
from mmplane.media.materialise import examine
from mmplane.media.materialise import materialise as materialise_file
from mutation import Mutant, check_it_is_killed
from torchvision_reference import Reference

KINDS = {
    "llava_onevision": "LlavaOnevisionVideoProcessor",
    "internvl": "InternVLVideoProcessor",
    "smolvlm": "SmolVLMVideoProcessor",
}
STRETCHED = {"size": {"height": 56, "width": 70}}
SIZE: dict[str, dict[str, Any]] = {
    "llava_onevision": STRETCHED,
    "internvl": STRETCHED,
    "smolvlm": {"size": {"longest_edge": 96}, "max_image_size": {"longest_edge": 56}},
}
NOISE = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
RANDOM = np.random.default_rng(1)
SIZES = [(int(RANDOM.integers(10, 290)), int(RANDOM.integers(10, 290))) for _ in range(198)] + [(56, 70), (56, 20)]
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "with nulls": {"do_center_crop": None, "crop_size": None, "do_sample_frames": None, "num_frames": None},
    "of the model's own class": {"video_processor_type": None},
    "bilinear": {"resample": 2},
    "Lanczos": {"resample": 1},
    "only rescaled": {"do_normalize": False},
    "only normalised": {"do_rescale": False},
}
CHOICES: dict[str, dict[str, dict[str, Any]]] = {
    "llava_onevision": {"so many": {"num_frames": 5}, "by time": {"fps": 3}},
    "internvl": {
        "so many": {"num_frames": 5},
        "by time": {"fps": 3},
        "from the first": {"num_frames": 5, "initial_shift": False},
        "from the third": {"num_frames": 5, "initial_shift": 2},
        "from between": {"num_frames": 5, "initial_shift": 1.5},
    },
    "smolvlm": {
        "so many": {"num_frames": 5, "fps": 3},
        "by time": {"num_frames": 50, "fps": 3},
        "one": {"num_frames": 3, "fps": 0.01},
        "more than there are": {"num_frames": 50, "fps": 30},
        "not padded": {"num_frames": 2, "fps": 1, "do_pad": False},
    },
}
OLDER = {"max_frames": 5, "fps": 2, "video_size": {"longest_edge": 80}}
CASES: list[tuple[str, dict[str, Any]]] = [(family, {}) for family in KINDS]
CASES += [(family, SIZE[family] | settings) for family in KINDS for settings in CONFIGURATIONS.values()]
CASES += [
    (family, SIZE[family] | settings | {"do_sample_frames": True})
    for family, choices in CHOICES.items()
    for settings in choices.values()
]
CASES += [("smolvlm", {"video_sampling": OLDER, "do_sample_frames": True, **size}) for size in ({}, SIZE["smolvlm"])]
each = pytest.mark.parametrize("family", KINDS)


def write(folder: Path, family: str, **settings: Any) -> str:
    written = FAMILIES[family].write(folder)
    content = {"video_processor_type": KINDS[family], **settings}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(content))
    return written


def arrays_of(processor: FrameVideoProcessor, frames: Any, fps: float | None = None) -> dict[str, Any]:
    clip = Clip(frames.shape[2], frames.shape[1], len(frames), fps, processor.sample(len(frames), fps))
    layout = processor.layout(clip)
    arrays = views(layout.tensors, memoryview(bytearray(b"\xaa" * layout.length_bytes)))
    written_bytes = processor.write((frames[index] for index in clip.indices), clip, arrays)
    assert written_bytes == sum(array.nbytes for array in arrays.values())
    return arrays


def materialise(processor: FrameVideoProcessor, frames: Any, fps: float | None = None) -> Any:
    return next(iter(arrays_of(processor, frames, fps).values()))


def check_a_whole_call(folder: str, frames: Any, metadata: dict[str, Any], reference: Reference) -> tuple[int, ...]:
    """Returns the frames that were taken."""
    processor, fps, (total, height, width, _) = frame_processor(folder), metadata["fps"], frames.shape
    facts = {"total_num_frames": total, "frames_indices": list(range(total)), "tensors": "pt", **metadata}
    theirs = reference.clip(folder, frames, "<video>", facts)
    assert "error" not in theirs, theirs["error"]
    indices = processor.sample(total, fps)
    layout = processor.layout(Clip(width, height, total, fps, indices))
    ids = [token for token, count in layout.expansion for _ in range(count)]
    assert ids == theirs.pop("input_ids")[0].tolist()
    theirs.pop("attention_mask")
    ours = arrays_of(processor, frames, fps)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], strict=True)
    return indices


def whole(family: str, theirs: Any) -> Any:
    """What the Processor makes of the video processor's array: InternVL's joins the frames of all clips."""
    return theirs[0] if family == "internvl" else theirs


@each
def test_two_hundred_sizes(family: str, tmp_path: Path, reference: Reference) -> None:
    folder = write(tmp_path, family, **SIZE[family])
    assert fast_paths(folder, ["video"]) == ["video"]
    processor = frame_processor(folder)
    clips = [np.stack([NOISE[i : i + height, i : i + width] for i in (0, 9)]) for height, width in SIZES]
    for frames, theirs in zip(clips, reference.clips(folder, clips), strict=True):
        np.testing.assert_array_equal(materialise(processor, frames), whole(family, theirs), strict=True)


@pytest.mark.parametrize(("family", "settings"), CASES, ids=str)
def test_a_real_clip_in_a_whole_call(
    family: str, settings: dict[str, Any], tmp_path: Path, reference: Reference
) -> None:
    frames = decoded(real("carphone_pristine"))[0][:20]
    metadata = {"fps": 10.0, "duration": 2.0}
    check_a_whole_call(write(tmp_path, family, **settings), frames, metadata, reference)


@pytest.mark.parametrize(
    ("total", "fps", "settings", "taken"),
    [
        (60, 10.0, {"num_frames": 3, "fps": 1}, (10, 30, 50)),  # without the first and the last second
        (50, 10.0, {"num_frames": 3, "fps": 1}, (0, 24, 49)),
        (97, 29.97, {"num_frames": 64, "fps": 2}, (0, 19, 38, 57, 76, 96)),
        (6, 30.0, {"num_frames": 64, "fps": 1}, (0,)),
        (9, 0.05, {"num_frames": 64, "fps": 1}, tuple(range(9))),  # minutes and seconds
        (101, 0.9, {"num_frames": 101, "fps": 1}, tuple(range(101))),
    ],
)
def test_frames_and_times_of_smolvlm(
    total: int, fps: float, settings: dict[str, Any], taken: tuple[int, ...], tmp_path: Path, reference: Reference
) -> None:
    folder = write(tmp_path, "smolvlm", do_sample_frames=True, **SIZE["smolvlm"], **settings)
    frames = np.broadcast_to(np.arange(total, dtype=np.uint8)[:, None, None, None], (total, 12, 10, 3))
    assert check_a_whole_call(folder, frames, {"fps": fps, "duration": total / fps}, reference) == taken


def test_a_smolvlm_clip_without_a_rate(tmp_path: Path, reference: Reference) -> None:
    folder, frames = write(tmp_path, "smolvlm", **SIZE["smolvlm"]), np.zeros((40, 12, 10, 3), np.uint8)
    check_a_whole_call(folder, frames, {"fps": None}, reference)


def test_numbers_in_words() -> None:
    recorded = {  # by num2words 0.5.14
        0: "zero",
        13: "thirteen",
        20: "twenty",
        64: "sixty-four",
        100: "one hundred",
        121: "one hundred and twenty-one",
        1000: "one thousand",
        1001: "one thousand and one",
        1100: "one thousand, one hundred",
        21021: "twenty-one thousand and twenty-one",
        123456: "one hundred and twenty-three thousand, four hundred and fifty-six",
    }
    assert {number: in_words(number) for number in recorded} == recorded


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


@each
def test_arguments_of_one_call(family: str, tmp_path: Path, reference: Reference) -> None:
    rates = {"num_frames": 9, "fps": 2} if family == "smolvlm" else {}
    folder, frames = (
        write(tmp_path, family, **SIZE[family], **rates),
        np.stack([NOISE[i : i + 90, :130] for i in range(7)]),
    )
    own, size = frame_processor(folder), {name: length - 26 for name, length in SIZE[family]["size"].items()}
    for arguments in ({"size": size}, {"do_normalize": False}, {"image_mean": [0.1, 0.2, 0.3]}):
        ours = materialise(own.adjusted(arguments), frames)
        (theirs,) = reference.clips(folder, [frames], **arguments)
        np.testing.assert_array_equal(ours, whole(family, theirs), strict=True)
    chosen = {"llava_onevision": (0, 2, 4), "internvl": (1, 3, 5), "smolvlm": (0, 3, 6)}[family]
    assert own.adjusted({"do_sample_frames": True, "num_frames": 3}).sample(7, 1.0) == chosen
    with pytest.raises(ValueError, match="takes no min_frames"):
        own.adjusted({"min_frames": 3})
    with pytest.raises(ValueError, match="not built for these arguments: size"):
        own.adjusted({"size": {"shortest_edge": 30}})


@each
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_hold_the_same_values(encoding: Any, family: str, tmp_path: Path) -> None:
    frames = np.stack([NOISE[i : i + 90, i : i + 130] for i in range(3)])
    processor = frame_processor(write(tmp_path, family, **SIZE[family]), encoding=encoding)
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
    timed = frame_processor(write(tmp_path / "timed", "smolvlm", do_sample_frames=True, num_frames=9, fps=2))
    assert timed.sample(20, 10.0) == (0, 6, 12, 19)
    assert timed.sample(20, 10.0, frames_max=3) == (0, 10, 19)


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
        ("smolvlm", {"num_frames": 9, "fps": 2}, 8, None),
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


@each
def test_a_sidecar_serves_them_from_a_file_as_bytes_and_a_server_does_not(
    family: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    choice = {"do_sample_frames": True, "num_frames": 4} | ({"fps": 2} if family == "smolvlm" else {})
    folder, media = write(tmp_path, family, **SIZE[family], **choice), real("carphone_pristine")
    processors: Processors = choose(config(folder, kind="sidecar", generic=False))
    recipe = examine(processors, media, Ask("video"))
    slot = memoryview(bytearray(recipe.layout.length_bytes))
    materialise_file(processors, media, recipe, slot)
    stored = next(iter(views(recipe.layout.tensors, slot).values()))
    assert stored.shape[-4:] == (4, 3, 56, 56 if family == "smolvlm" else 70)
    assert recipe.clip is not None
    frames = decoded(media)[0][list(recipe.clip.indices)]
    exact = materialise(frame_processor(folder).adjusted({"do_sample_frames": False}), frames)
    rebuilt = np.empty_like(exact)
    processors.byte_forms["video"].rebuild(stored, rebuilt)
    np.testing.assert_array_equal(rebuilt, exact, strict=True)
    assert choose(config(folder)).video is None
    assert "clips of this family are only built for a sidecar" in caplog.text


NEITHER: list[dict[str, Any]] = [{"size": {"shortest_edge": 56}}, {"size": 56}, {"image_mean": None}]
NEITHER += [{"do_resize": False}, {"do_rescale": False, "do_normalize": False}]
BOTH: dict[str, Any] = {"do_sample_frames": True, "num_frames": 3, "fps": 2}
NOT_BUILT: dict[str, list[dict[str, Any]]] = {
    "llava_onevision": [*NEITHER, {"do_center_crop": True}, BOTH],
    "internvl": [*NEITHER, {"do_center_crop": True}, BOTH, {"initial_shift": -1}, {"initial_shift": None}],
    "smolvlm": [*NEITHER, BOTH | {"fps": None}, BOTH | {"num_frames": None}, {"max_image_size": {"height": 9}}],
}


@each
def test_clips_and_configurations_that_are_refused(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = frame_processor(write(tmp_path / "own", family, **SIZE[family]))
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
    for number, settings in enumerate(NOT_BUILT[family]):
        with pytest.raises(ValueError, match="not built"):
            frame_processor(write(tmp_path / str(number), family, **settings))
    right = kernels.torch_weights
    monkeypatch.setattr(kernels, "torch_weights", lambda *sizes: (*right(*sizes)[:2], right(*sizes)[2] + 1))
    with pytest.raises(ValueError, match="differ from torch's own"):
        frame_processor(write(tmp_path / "own", family, **SIZE[family]))


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
