"""What a model is told of when frames are shown: a server says what is true, a sidecar what transformers computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clips import encode, moving, recorded
from features.families.test_qwen_video import write
from mmplane.config import Config
from mmplane.core.errors import RequestError
from mmplane.core.records import Ask, Clip
from mmplane.features.choice import choose
from mmplane.features.contract.video import ClipRules
from mmplane.features.families.qwen_video import QwenVideoProcessor
from mmplane.features.select import video_processor
from mmplane.media.video import examine, survey


def server(folder: str) -> QwenVideoProcessor:
    return video_processor(folder).following(ClipRules(true_times=True))


def looked_at(processor: QwenVideoProcessor, media: bytes) -> Clip:
    clip = examine(processor, media, Ask("video")).clip
    assert clip is not None
    return clip


def told(processor: QwenVideoProcessor, clip: Clip) -> list[float]:
    return [at_s for times in processor._checkpoint._times(clip) for at_s in times]


def test_a_browsers_clip(tmp_path: Path) -> None:
    """100 frames in 20 seconds. Its container gives no rate, and 24 would make 4 seconds of it."""
    media, folder = recorded("mediarecorder.webm"), write("qwen3", tmp_path)
    assert survey(media).fps is None
    clip = looked_at(server(folder), media)
    assert clip.fps == pytest.approx(5.0, abs=0.01)
    assert len(clip.indices) == pytest.approx(40, abs=1)
    assert told(server(folder), clip)[-1] == pytest.approx(19.8, abs=0.05)
    as_transformers = looked_at(video_processor(folder), media)
    assert (as_transformers.fps, len(as_transformers.indices)) == (None, 8)
    assert told(video_processor(folder), as_transformers)[-1] == pytest.approx(99 / 24)


@pytest.mark.parametrize("name", ["qwen2.5, sampled", "glm4v", "glm46v"])
def test_a_model_that_needs_the_rate(name: str, tmp_path: Path) -> None:
    media, folder = recorded("mediarecorder.webm"), write(name, tmp_path)
    assert len(looked_at(server(folder), media).indices) > 30
    with pytest.raises(RequestError, match="does not say how many frames"):
        looked_at(video_processor(folder), media)


def test_times_count_from_the_first_frame(tmp_path: Path) -> None:
    processor = server(write("qwen3", tmp_path))
    late = Clip(64, 64, 4, 2.0, (0, 1, 2, 3), (9.0, 9.5, 10.0, 12.0), begins_s=9.0)
    assert told(processor, late) == [0.0, 0.5, 1.0, 3.0]
    assert told(video_processor(write("qwen3", tmp_path)), late) == [0.0, 0.5, 1.0, 1.5]


@pytest.mark.parametrize(
    ("stated", "true"),
    [(None, 10.0), (10.0, 10.0), (9.8, 9.8), (1000.0, 10.0), (1.0, 10.0)],
)
def test_a_stated_rate_holds_unless_the_frames_come_otherwise(stated: float | None, true: float) -> None:
    footage = survey(encode(moving(20)))
    assert replace(footage, fps=stated).true_fps == pytest.approx(true)


def test_one_frame_has_no_rate() -> None:
    footage = replace(survey(encode(moving(1))), fps=None)
    assert footage.true_fps is None


def test_the_difference_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    folder = write("qwen3", tmp_path)
    config = Config(model="", model_folder=folder, served_name="")
    of_server, of_sidecar = (
        choose(config),
        choose(Config(model="", model_folder=folder, served_name="", kind="sidecar")),
    )
    assert of_server.for_clips.rules.true_times
    assert not of_sidecar.for_clips.rules.true_times
    assert of_server.fingerprint_of("video") != of_sidecar.fingerprint_of("video")
    assert of_server.fingerprint_of("image") == of_sidecar.fingerprint_of("image")
