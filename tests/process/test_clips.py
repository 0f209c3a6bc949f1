"""Clips: plain transformers' tokens and features, from the very frames that PyAV decodes one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from av.stream import Disposition
from blake3 import blake3
from conformance import switch
from live import Live
from pictures import noise, part, photograph, text
from reference import Expected, Reference

from accepted import CLIPS, FPS, FRAMES
from clips import CONTAINERS, clip_part, decoded, encode, growing, moving, real, recorded, repeated, tracks
from mmplane.config import DELIVERY_NAMES
from torchvision_reference import INSTALL, TORCHVISION, reference_process
from torchvision_reference import Reference as ProcessorReference

TOKENS_MAX = 8
MARGIN_MIN = 1e-3
PLACEHOLDERS = {"image_url": "image", "video_url": "video"}


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessorReference]:
    """transformers' own video processor, in a process that has torchvision."""
    if not TORCHVISION.exists():
        pytest.fail(f"transformers' video processors need torchvision: {INSTALL}")
    with reference_process(tmp_path_factory.mktemp("reference")) as process:
        yield process


def processed(processor: ProcessorReference, reference: Reference, media: bytes, frames_max: int) -> dict[str, Any]:
    """What transformers makes of a clip: it decodes nothing, but it samples."""
    frames, seconds = decoded(media)
    fps = (len(seconds) - 1) / (seconds[-1] - seconds[0])
    metadata = {"total_num_frames": len(frames), "fps": fps, "frames_indices": list(range(len(frames)))}
    text_ = "<|vision_start|><|video_pad|><|vision_end|>"
    sampled = {"sample": True, "num_frames": frames_max} if frames_max < len(frames) else {}
    outputs = processor.clip(str(reference.folder), frames, text_, metadata | sampled)
    outputs["second_per_grid_ts"] = outputs["second_per_grid_ts"].astype(np.float32)
    return outputs


def expected(reference: Reference, content: Any, clips: list[dict[str, Any]], pictures: list[bytes]) -> Expected:
    """The answer of transformers' own model to transformers' own features."""
    prompt = reference.prompt(content, PLACEHOLDERS)
    inputs: dict[str, Any] = {}
    for name in ("pixel_values_videos", "video_grid_thw", "second_per_grid_ts"):
        inputs[name] = torch.cat([torch.from_numpy(clip[name]) for clip in clips])
    features = [reference.features(picture) for picture in pictures]
    if features:
        inputs |= {name: torch.cat([each[name] for each in features]) for name in features[0]}
    for grids, token in ((inputs.get("image_grid_thw"), "<|image_pad|>"), (inputs["video_grid_thw"], "<|video_pad|>")):
        for grid in () if grids is None else grids:
            prompt = prompt.replace(token, "<mark>" * (int(grid.prod()) // 4), 1)
        prompt = prompt.replace("<mark>", token)
    ids = reference.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
    config = reference.model.config
    kinds = (ids == config.image_token_id).int() + 2 * (ids == config.video_token_id).int()
    return reference.answer(
        inputs | {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": kinds}, TOKENS_MAX
    )


def ask(live: Live, content: Any, **mmplane: Any) -> dict[str, Any]:
    answer = live.chat(content, max_tokens=TOKENS_MAX, mmplane={"trace": True, **mmplane})
    assert answer.status_code == 200, answer.text
    trace: dict[str, Any] = answer.json()["mmplane"]["trace"]
    return trace


def check_item(item: dict[str, Any], clip: dict[str, Any], media: bytes, tp: int) -> None:
    features = clip["pixel_values_videos"]
    digest = blake3(features.tobytes()).hexdigest()
    assert item["digests"] == {str(rank): digest for rank in range(tp)}
    assert (item["modality"], item["shape"], item["dtype"]) == ("video", list(features.shape), "float32")
    seconds = decoded(media)[1]
    sampling = item["sampling"]
    assert sampling["frames_total"] == len(seconds)
    assert sampling["seconds"] == pytest.approx([seconds[index] for index in sampling["frames"]])


@pytest.mark.parametrize("tp", [1, 2])
def test_tokens_and_features(
    tp: int, server_of: Callable[[int], Live], reference: Reference, processor: ProcessorReference
) -> None:
    live = server_of(tp)
    answers = set()
    for media, frames in ((real("carphone_pristine"), 8), (encode(moving(20, 224, 140)), 6)):
        content = [clip_part(media), text("What is this?")]
        clip = processed(processor, reference, media, frames)
        want = expected(reference, content, [clip], [])
        assert want.margin > MARGIN_MIN, want
        trace = ask(live, content, video={"frames": frames})
        assert trace["token_ids"] == [want.tokens]
        check_item(trace["items"][0], clip, media, tp)
        answers.add(str(want.tokens))
    assert len(answers) == 2, "the answer must depend on the clip"


def test_clips_and_pictures_together(server: Live, reference: Reference, processor: ProcessorReference) -> None:
    """Grids and seconds of each kind in the order of their items; a picture between two clips."""
    media = [encode(moving(10, 112, 84)), real("carphone_pristine")]
    pictures = [noise(61), photograph("flower")]
    content = [
        part(pictures[0]),
        clip_part(media[0]),
        text("then"),
        part(pictures[1]),
        clip_part(media[1]),
        text("What is this?"),
    ]
    clips = [processed(processor, reference, each, 4) for each in media]
    want = expected(reference, content, clips, pictures)
    assert want.margin > MARGIN_MIN, want
    trace = ask(server, content, video={"frames": 4})
    assert [item["modality"] for item in trace["items"]] == ["image", "video", "image", "video"]
    assert trace["token_ids"] == [want.tokens]
    for item, clip, each in zip(trace["items"][1::2], clips, media, strict=True):
        check_item(item, clip, each, 2)


@pytest.mark.parametrize(
    ("codec", "container"),
    [("libvpx-vp9", "webm"), ("libvpx", "webm"), ("libx264", "matroska"), ("gif", "gif"), ("libsvtav1", "mp4")],
)
def test_every_container(
    codec: str, container: str, server: Live, reference: Reference, processor: ProcessorReference
) -> None:
    media = encode(moving(12, 112, 56), codec, container)
    (item,) = ask(server, [clip_part(media, CONTAINERS[container]), text("?")])["items"]
    check_item(item, processed(processor, reference, media, 32), media, 2)


def test_every_kind_in_the_table_is_taken(server: Live) -> None:
    """Whole, with their own times from where they begin; the unit tests compare every pixel."""
    for name, make in CLIPS.items():
        (item,) = ask(server, [clip_part(make(), "video/x"), text("?")], video={"frames": 4})["items"]
        sampling = item["sampling"]
        assert (sampling["frames"], sampling["frames_total"]) == ([0, 6, 12, 18], FRAMES), name
        begins_s = sampling["seconds"][0]
        assert sampling["seconds"] == pytest.approx([begins_s + at / FPS for at in (0, 6, 12, 18)], abs=2e-3), name


def test_the_track_that_players_show(server: Live) -> None:
    """The default one, wherever it stands; a cover is none; a clip that changes its size goes on."""
    short, long = encode(moving(6, 112, 84)), encode(moving(12, 112, 84))
    cover = encode(moving(1, 112, 84), "mjpeg", "matroska")
    default, other = Disposition.default, Disposition(0)
    for media, count in (
        (tracks((short, other), (long, default)), 12),
        (tracks((long, default), (short, other)), 12),
        (tracks((cover, Disposition.attached_pic), (long, default), container="mp4"), 12),
        (growing((112, 84), (224, 168), 10), 10),
    ):
        (item,) = ask(server, [clip_part(media), text("?")])["items"]
        assert item["sampling"]["frames_total"] == count
    alone = server.chat([clip_part(tracks((cover, Disposition.attached_pic), container="mp4")), text("?")])
    assert (alone.status_code, alone.json()["error"]["message"]) == (400, "the file contains no video")


def test_a_browsers_recording_has_its_own_rate(server: Live) -> None:
    """Its container gives none: with `fps` it was refused."""
    media = clip_part(recorded("mediarecorder.webm"), "video/webm")
    (item,) = ask(server, [media, text("?")], video={"fps": 1})["items"]
    assert len(item["sampling"]["frames"]) == 18
    assert item["sampling"]["seconds"][-1] > 18


def test_few_frames_by_count_or_rate_and_never_more(server: Live) -> None:
    media = clip_part(encode(moving(80, 56, 56), fps=20))

    def taken(**video: Any) -> list[int]:
        (item,) = ask(server, [media, text("?")], **({"video": video} if video else {}))["items"]
        frames: list[int] = item["sampling"]["frames"]
        return frames

    assert len(taken()) == 32  # the server's ceiling; the checkpoint would take all 80
    assert len(taken(frames=1000)) == 32
    assert taken(frames=8) == list(range(0, 80, 10))
    assert taken(fps=2.0) == list(range(0, 80, 10))
    assert len(taken(fps=20.0)) == 32
    assert len(taken(frames=6, fps=2.0)) == 6
    assert len(taken(frames=1)) == 2  # a moment of this model is two frames


def still(count: int, width: int, height: int) -> np.ndarray:
    return np.broadcast_to(moving(1, width, height), (count, height, width, 3))


EVERYDAY = {
    "20 minutes of 1080p30": (("libx264", 250, 1920, 1080, 30), 144),
    "6 minutes at 60 frames a second": (("libx264", 250, 640, 360, 60), 87),
    "10 seconds of 4K": (("libx264", 60, 3840, 2160, 30), 5),
    "15 minutes of MPEG-4": (("mpeg4", 250, 640, 360, 25), 90),
}


@pytest.mark.parametrize("name", EVERYDAY)
def test_everyday_clips_are_taken(name: str, server: Live) -> None:
    """At the distance of key frames that encoders choose; all of them were refused for their frames."""
    (codec, count, width, height, fps), times = EVERYDAY[name]
    group = encode(still(count, width, height), codec, "mp4", fps=fps, g=str(count), **SPEED.get(codec, {}))
    media = repeated(group, times)
    sampling = ask(server, [clip_part(media), text("?")], video={"frames": 2})["items"][0]["sampling"]
    assert (len(sampling["frames"]), sampling["frames_total"]) == (2, count * times)
    assert sampling["seconds"][-1] > 0.4 * count * times / fps
    assert sampling["seconds"] == pytest.approx([index / fps for index in sampling["frames"]], abs=1e-3)


SPEED = {"libx264": {"preset": "ultrafast"}}


def test_every_delivery(server: Live) -> None:
    """Whoever materialises a clip: the same features on every rank, the same tokens."""
    content = [clip_part(real("carphone_pristine")), part(noise(64)), text("What is this?")]
    want = ask(server, content, video={"frames": 4})
    try:
        for name in DELIVERY_NAMES:
            switch(server, name)
            trace = ask(server, content, video={"frames": 4})
            assert trace["delivery"] == name or name == "auto"
            assert trace["token_ids"] == want["token_ids"], name
            for item, wanted in zip(trace["items"], want["items"], strict=True):
                assert item["digests"] == wanted["digests"], name
                assert (item["modality"], item["shape"]) == (wanted["modality"], wanted["shape"])
    finally:
        switch(server, "arena")


def test_written_once_and_made_once(server: Live) -> None:
    """Invariants 1 and 2, by count: the bytes that the kernels wrote are the features' and nothing more."""
    before = server.statistics()["plane"]
    content = [clip_part(encode(moving(12, 84, 84))), part(noise(62)), text("?")]
    items = ask(server, content)["items"]
    assert [item["cache_hit"] for item in ask(server, content)["items"]] == [True, True]
    after = server.statistics()["plane"]
    assert after["materialisations"] - before["materialisations"] == 2
    encoded_bytes = sum(4 * int(np.prod(item["shape"])) for item in items)
    companions_bytes = 24 + 4 + 24  # two grids, and one clip's seconds
    assert after["bytes_written"] - before["bytes_written"] == encoded_bytes + companions_bytes


BAD = {
    "a playlist": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n",
    "a list of files": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "a picture": noise(63),
    "truncated": real("carphone_pristine")[:3000],
    "no frames": b"\x00\x00\x00\x18ftypmp42" + bytes(200),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_clips(name: str, server: Live) -> None:
    before = server.statistics()["arena"]
    answer = server.chat([clip_part(BAD[name]), text("?")])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_media"), answer.text
    server.settle()
    after = server.statistics()["arena"]
    assert (after["leases"], after["slots"]) == (before["leases"], before["slots"])
