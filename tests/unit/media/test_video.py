"""Clips: the frames that PyAV decodes one after the other, at the times that were promised; all else is refused."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import given, settings, strategies

from clips import REAL, decoded, described_twice, encode, growing, moving, real, tracks, with_hidden_frames
from mmplane.core.errors import RequestError
from mmplane.core.records import Ask, Clip, Layout
from mmplane.features.contract.arrays import Arrays
from mmplane.features.contract.image import Pixels
from mmplane.features.contract.video import ClipRules, VideoProcessor
from mmplane.media import footage as footage_module
from mmplane.media import gops, video
from mmplane.media.footage import chosen, pixels_decoded
from mmplane.media.video import decode, examine, survey
from mutation import mutated

KINDS = {
    "H.264 in MP4": ("libx264", "mp4"),
    "H.264 in MKV": ("libx264", "matroska"),
    "H.265 in MP4": ("libx265", "mp4"),
    "MPEG-4 in MP4": ("mpeg4", "mp4"),
    "VP8 in WebM": ("libvpx", "webm"),
    "VP9 in WebM": ("libvpx-vp9", "webm"),
    "AV1 in MP4": ("libsvtav1", "mp4"),
    "GIF": ("gif", "gif"),
    "H.264 in MPEG-TS": ("libx264", "mpegts"),
    "H.265 in MPEG-TS": ("libx265", "mpegts"),
    "MPEG-4 in AVI": ("mpeg4", "avi"),
    "MJPEG in AVI": ("mjpeg", "avi"),
    "MJPEG in MOV": ("mjpeg", "mov"),
    "ProRes in MOV": ("prores", "mov"),
    "MPEG-2 in MPEG-TS": ("mpeg2video", "mpegts"),
    "MPEG-2 in MPEG": ("mpeg2video", "vob"),
    "MPEG-1 in MPEG": ("mpeg1video", "mpeg"),
    "DivX 3 in AVI": ("msmpeg4", "avi"),
}


class EveryThird(VideoProcessor):
    """A processor that takes every third frame."""

    @property
    def fingerprint(self) -> bytes:
        return b""

    @property
    def placeholder_id(self) -> int:
        return 1

    def sample(
        self, frames_total: int, fps: float | None, *, frames_max: int = 0, fps_max: float = 0.0
    ) -> tuple[int, ...]:
        return tuple(range(0, frames_total, 3))[: frames_max or None]

    def layout(self, clip: Clip) -> Layout:
        return Layout((), ((1, len(clip.indices)),), 1)

    def write(self, frames: Any, clip: Clip, out: Arrays) -> int:
        raise NotImplementedError

    def warm(self) -> None:
        raise NotImplementedError


def taken(media: bytes, **ask: Any) -> tuple[Clip, list[Pixels]]:
    recipe = examine(EveryThird(), media, Ask("video", **ask))
    assert recipe.clip is not None
    return recipe.clip, list(decode(media, recipe.clip))


def refusal(media: bytes, clip: Clip | None = None) -> str:
    with pytest.raises(RequestError) as caught:
        survey(media) if clip is None else list(decode(media, clip))
    assert (caught.value.status, caught.value.code) == (400, "invalid_media")
    return caught.value.message


@pytest.mark.parametrize("name", REAL)
def test_real_clips(name: str) -> None:
    check_against_pyav(real(name))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind: str) -> None:
    check_against_pyav(encode(moving(), *KINDS[kind], fps=25))


def test_frames_of_h264_in_avi_are_in_order() -> None:
    """AVI says when a frame is decoded and not when it is shown; these are shown otherwise."""
    media = encode(moving(), "libx264", "avi", fps=25)
    sequential, _ = decoded(media)
    for pixels, right in zip(taken(media)[1], sequential[::3], strict=True):
        np.testing.assert_array_equal(pixels, right)


def test_h263_of_an_old_phone() -> None:
    check_against_pyav(encode(moving(24, 176, 144), "h263", "3gp"))


def test_a_quicktime_file_without_a_ftyp() -> None:
    media = encode(moving(), "libx264", "mov")
    old = media.replace(b"ftyp", b"wide", 1)
    check_against_pyav(old)
    assert survey(old).seconds == survey(media).seconds


def test_the_default_track_is_taken() -> None:
    small, large = encode(moving(12, 48, 32)), encode(moving(12))
    for order in ((0, 1), (1, 0)):
        given = [(small, Disposition(0)), (large, Disposition.default)]
        assert survey(tracks(*(given[at] for at in order))).width == 96


def test_a_cover_is_no_clip() -> None:
    cover, film = encode(moving(1, 48, 32), "mjpeg", "matroska"), encode(moving(12))
    media = tracks((cover, Disposition.attached_pic), (film, Disposition.default), container="mp4")
    with av.open(io.BytesIO(media)) as opened:
        assert any(stream.disposition & Disposition.attached_pic for stream in opened.streams.video)
    assert survey(media).width == 96
    alone = tracks((cover, Disposition.attached_pic), container="mp4")
    assert refusal(alone) == "the file contains no video"


@pytest.mark.parametrize("later", [(192, 128), (48, 32), (64, 96)])
def test_a_clip_that_changes_its_size_keeps_the_first(later: tuple[int, int]) -> None:
    media = growing((96, 64), later)
    footage = survey(media)
    assert (footage.width, footage.height) == (96, 64)
    pixels = list(decode(media, footage.clip(tuple(range(6)))))
    assert {frame.shape for frame in pixels} == {(64, 96, 3)}
    assert np.abs(pixels[5].astype(int) - pixels[0]).mean() < 12, "the same picture, scaled"


def test_frames_that_grow_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    media = growing((16, 16), (320, 320))
    footage = survey(media)
    assert len(list(decode(media, footage.clip(tuple(range(6)))))) == 6
    monkeypatch.setattr(video, "LIBRARY_RULES", ClipRules(pixels_max=2 * FRAME))
    monkeypatch.setattr(footage_module, "FRAME_PIXELS_MIN", 1)
    with pytest.raises(RequestError, match="too many pixels in total"):
        list(decode(media, footage.clip(tuple(range(6)))))


def check_against_pyav(media: bytes) -> None:
    recipe = examine(EveryThird(), media, Ask("video"))
    assert recipe.clip is not None
    ours = decode(media, recipe.clip)
    seconds: list[float] = []
    with av.open(io.BytesIO(media)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            seconds.append(float(frame.time or 0))
            if index % 3 == 0:
                np.testing.assert_array_equal(next(ours), frame.to_ndarray(format="rgb24"))
    assert next(ours, None) is None
    assert survey(media).seconds == pytest.approx(seconds, abs=1e-9)
    assert recipe.clip.frames_total == len(seconds)
    assert recipe.clip.indices == tuple(range(0, len(seconds), 3))
    assert recipe.clip.seconds == pytest.approx(seconds[::3], abs=1e-9)


def test_frames_that_no_other_needs_are_left_out() -> None:
    """The clip has such frames, and others between two that are wanted; without those it would be another."""
    media = encode(moving(48), "libx264", "mp4")
    recipe = examine(EveryThird(), media, Ask("video"))
    assert recipe.clip is not None
    with av.open(io.BytesIO(media)) as container:
        container.streams.video[0].codec_context.skip_frame = "NONREF"
        assert sum(1 for _ in container.decode(video=0)) < recipe.clip.frames_total
    sequential, _ = decoded(media)
    right = [sequential[index] for index in recipe.clip.indices]
    assert all(map(np.array_equal, decode(media, recipe.clip), right))
    with mutated(video._needed, '"NONREF"', '"NONKEY"'):
        assert not all(map(np.array_equal, decode(media, recipe.clip), right))


GROUPED = {
    "closed groups": ("libx264", "keyint=8:min-keyint=8:scenecut=0"),
    "open groups": ("libx264", "keyint=8:min-keyint=8:scenecut=0:open-gop=1"),
    "sets in each group": ("libx264", "keyint=6:min-keyint=6:scenecut=0:repeat-headers=1:bframes=2"),
    "no B-frames": ("libx264", "keyint=5:bframes=0"),
    "pictures in slices": ("libx264", "keyint=8:slices=4"),
    "interlaced": ("libx264", "keyint=8:tff=1"),
    "H.265": ("libx265", "keyint=8:min-keyint=8:scenecut=0:open-gop=0:log-level=none"),
    "H.265, open groups": ("libx265", "keyint=8:min-keyint=8:scenecut=0:open-gop=1:log-level=none"),
    "VP8": ("libvpx", "8"),
    "VP9": ("libvpx-vp9", "8"),
    "AV1": ("libsvtav1", "keyint=8"),
    "MJPEG": ("mjpeg", "1"),
}
PARAMETERS = {
    "libx264": "x264-params",
    "libx265": "x265-params",
    "libvpx": "g",
    "libvpx-vp9": "g",
    "libsvtav1": "svtav1-params",
    "mjpeg": "g",
}


@pytest.mark.parametrize(
    ("kind", "container"),
    [(kind, container) for kind in GROUPED for container in ("mp4", "matroska") if (kind, container) != ("VP8", "mp4")],
)
def test_groups_of_pictures_that_nobody_wants_are_left_out(kind: str, container: str) -> None:
    codec, options = GROUPED[kind]
    media = encode(moving(48), codec, container, **{PARAMETERS[codec]: options})
    footage, (sequential, _) = survey(media), decoded(media)
    assert len(footage.seconds) == len(sequential) == 48
    drawn = random.Random(kind)
    for wanted in [
        (0,),
        (47,),
        (3, 44),
        (7, 8),
        *(tuple(sorted(drawn.sample(range(48), drawn.randint(1, 6)))) for _ in range(20)),
    ]:
        clip = footage.clip(wanted)
        for pixels, index in zip(decode(media, clip), wanted, strict=True):
            np.testing.assert_array_equal(pixels, sequential[index])
    if kind != "interlaced":  # this has picture timings
        assert footage.clip((3, 44)).frames_decoded < 20


def changed(media: bytes, change: Callable[[int, Any], bool]) -> bytes:
    """The clip's packets in Matroska, after `change` has had each; without those of which it says no."""
    file = io.BytesIO()
    with av.open(io.BytesIO(media)) as source, av.open(file, "w", format="matroska") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for at, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            if change(at, packet):
                packet.stream = stream
                out.mux(packet)
    return file.getvalue()


def test_a_clip_that_begins_in_mid_group() -> None:
    """Its first pictures refer to what is not there, so that fewer are shown than it has packets."""
    media = encode(moving(48), **{"x264-params": GROUPED["open groups"][1] + ":bframes=3:b-adapt=0"})
    keys = [at for at, is_key in enumerate(_keys(media)) if is_key]
    cut = changed(media, lambda at, _: at >= keys[1])
    sequential, seconds = decoded(cut)
    footage = survey(cut)
    assert len(sequential) < len(_keys(cut))
    assert footage.seconds == pytest.approx(seconds, abs=1e-9)
    for wanted in [(0, 9), (3, len(sequential) - 1)]:
        for pixels, index in zip(decode(cut, footage.clip(wanted)), wanted, strict=True):
            np.testing.assert_array_equal(pixels, sequential[index])


def test_of_two_frames_at_one_time_the_first_is_taken() -> None:
    def together(at: int, packet: Any) -> bool:
        packet.pts = packet.dts = 0 if at < 2 else packet.dts
        return True

    media = changed(encode(moving(6), **{"x264-params": "bframes=0"}), together)
    sequential, _ = decoded(media)
    footage = survey(media)
    assert (len(footage.seconds), len(sequential)) == (5, 6)
    for pixels, index in zip(decode(media, footage.clip((0, 4))), (0, 5), strict=True):
        np.testing.assert_array_equal(pixels, sequential[index])


def test_what_the_container_describes_anew_is_all_decoded() -> None:
    media = described_twice(encode(moving(24), **{"x264-params": "keyint=4:min-keyint=4:bframes=0"}), 8)
    sequential, _ = decoded(media)
    footage = survey(media)
    assert [unit.shown_s is None for unit in footage.units] == [at >= 8 for at in range(24)]
    for pixels, index in zip(decode(media, footage.clip((0, 9, 23))), (0, 9, 23), strict=True):
        np.testing.assert_array_equal(pixels, sequential[index])
    with mutated(video._shown, 'packet.has_sidedata("new_extradata")', "False"):
        assert survey(media).units[8].begins


def _keys(media: bytes) -> list[bool]:
    with av.open(io.BytesIO(media)) as container:
        return [packet.is_keyframe for packet in container.demux(video=0) if packet.size]


def test_hidden_frames_are_not_counted() -> None:
    """VP8's alternate reference frames are packets of their own that show nothing, and do not say so."""
    media = with_hidden_frames(encode(moving(24), "libvpx", "webm"), [5])
    with av.open(io.BytesIO(media)) as container:
        assert sum(1 for packet in container.demux(video=0) if packet.size) == 24
    assert len(survey(media).seconds) == 23
    check_against_pyav(media)


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (270, 3), (-90, 3)])
def test_a_turned_clip_is_shown_upright(rotation: int, turns: int) -> None:
    media = encode(moving(6), rotation=rotation)
    clip, pixels = taken(media)
    plain, _ = decoded(media)
    assert (clip.width, clip.height) == ((64, 96) if turns % 2 else (96, 64))
    with av.open(io.BytesIO(media)) as container:
        assert next(container.decode(video=0)).rotation % 360 == rotation % 360
    np.testing.assert_array_equal(pixels[0], np.rot90(plain[0], turns))


def test_one_packet_is_decoded_for_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the decoder would give its first frame after as many as may be shown before it."""
    monkeypatch.setattr(video, "beginning_of", lambda *_: None)
    media = encode(moving(24), "libx264", "mp4")
    with mutated(video._shown, "else packet.decode()", "else 1 // 0"):
        footage = survey(media)
    assert (footage.width, footage.height) == moving(1)[0].shape[1::-1]
    assert len(footage.seconds) == 24


@pytest.mark.parametrize(
    "kind", ["H.264 in MP4", "H.264 in MKV", "H.264 in MPEG-TS", "H.265 in MP4", "H.265 in MPEG-TS"]
)
def test_the_beginning_of_a_picture_is_decoded_for_the_size(kind: str) -> None:
    """However large it is. Sizes are cropped and turned as those of whole pictures are."""
    noise = np.random.default_rng(1).integers(0, 256, (3, 198, 322, 3), np.uint8)
    turned = {"rotation": 90} if kind.endswith("MP4") else {}
    media = encode(noise, *KINDS[kind], **turned)
    with mutated(video._decoded_now, "packet.decode() or decoder.decode(None)", "1 // 0"):
        footage = survey(media)
    with mutated(video._decoded_now, "if beginning is not None", "if False"):
        assert survey(media) == footage
    assert (footage.width, footage.height) == ((198, 322) if turned else (322, 198))


@pytest.mark.parametrize("kind", ["H.264 in MP4", "H.264 in MPEG-TS", "H.265 in MP4"])
def test_a_picture_whose_beginning_says_nothing_is_decoded_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is cut."""
    media = encode(moving(6), *KINDS[kind])
    right = survey(media)
    for kept in range(40):
        monkeypatch.setattr(gops, "BEGINNING_BYTES", kept)
        assert survey(media) == right
    assert (right.width, right.height) == (96, 64)


def test_frames_become_rgb_in_this_thread() -> None:
    media = encode(moving(6, 320, 192))
    clip = survey(media).clip((0, 3, 5))

    def started() -> int:
        before = set(TASKS.iterdir())
        return max(len(set(TASKS.iterdir()) - before) for _ in decode(media, clip))

    assert started() == 0
    with mutated(video._pixels, "threads=1", "threads=3"):
        assert started() > 0


TASKS = Path("/proc/self/task")
"""This process's threads."""


def test_a_clip_of_one_frame() -> None:
    assert survey(encode(moving(1))).seconds == (0.0,)


def test_only_as_far_as_the_last_frame_that_is_wanted() -> None:
    """What is broken behind it does no harm."""
    media = encode(moving(), "gif", "gif")
    clip, _ = taken(media)
    first = Clip(clip.width, clip.height, clip.frames_total, clip.fps, (0,))
    np.testing.assert_array_equal(next(decode(media[: len(media) // 2], first)), decoded(media)[0][0])


@pytest.mark.parametrize(
    "media",
    [
        b"",
        b"\x00" * 64,
        b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<?xml version='1.0'?><MPD/>",
        b"RIFF\x00\x00\x00\x00WAVEfmt ",
        b"FLV\x01" + bytes(60),
    ],
)
def test_what_is_no_clip_is_refused_and_told_what_is(media: bytes) -> None:
    assert refusal(media) == "the clip's format is not supported: send MP4, MOV, WebM, MKV, AVI, MPEG or GIF"


@pytest.mark.parametrize("kept", [0.001, 0.02, 0.3])
@pytest.mark.parametrize("kind", ["H.264 in MP4", "VP9 in WebM"])
def test_a_truncated_clip(kind: str, kept: float) -> None:
    """Refused, or what is there of it; never anything else."""
    media = encode(moving(), *KINDS[kind])
    cut = media[: max(16, int(len(media) * kept))]
    try:
        clip, pixels = taken(cut)
    except RequestError:
        return
    np.testing.assert_array_equal(np.stack(pixels), decoded(cut)[0][list(clip.indices)])


def test_a_picture_that_calls_itself_a_clip_has_no_frames_to_decode() -> None:
    refusal(b"\x00\x00\x00\x18ftypmp42" + bytes(100))


def test_a_codec_outside_the_list_is_refused() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream: Any = out.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for frame in (*moving(3), None):
            out.mux(stream.encode(frame if frame is None else av.VideoFrame.from_ndarray(frame, format="rgb24")))
    assert refusal(file.getvalue()) == "the clip's codec is not supported"


def test_a_clip_that_does_not_begin_is_refused() -> None:
    """Packet after packet is decoded, and none gives a frame."""
    media = with_hidden_frames(encode(moving(120, 32, 32), "libvpx", "webm"), range(120))
    assert refusal(media) == "the clip cannot be decoded"
    assert refusal(with_hidden_frames(encode(moving(12), "libvpx", "webm"), range(12))) == "the clip has no frames"


def test_frames_that_are_too_large_are_refused_before_one_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    media = encode(moving(4))
    monkeypatch.setattr(video, "PIXELS_MAX", 96 * 64)
    survey(media)
    monkeypatch.setattr(video, "PIXELS_MAX", 96 * 64 - 1)
    assert refusal(media) == "the clip's frames have too many pixels"


def test_limits() -> None:
    media = encode(moving(24))
    with pytest.raises(RequestError, match=r"too long: this server accepts at most 2.2 seconds"):
        survey(media, ClipRules(seconds_max=2.2))
    survey(media, ClipRules(seconds_max=2.3))


def test_limits_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    media, wide = encode(moving(24), "gif", "gif"), encode(moving(2, 128, 32))
    monkeypatch.setattr(video, "FRAMES_MAX", 24)
    survey(media)
    monkeypatch.setattr(video, "FRAMES_MAX", 23)
    survey(encode(moving(24)))  # whose packets tell which of them need not be decoded
    with pytest.raises(RequestError, match="too many frames"):
        survey(media)
    monkeypatch.setattr(video, "ASPECT_MAX", 3)
    with pytest.raises(RequestError, match="too long for its width"):
        survey(wide)


class Every(EveryThird):
    """The same under other rules; of fewer frames it takes some from all of the clip."""

    def __init__(self, frames: int, **rules: Any) -> None:
        self._frames = frames
        self.rules = ClipRules(**rules)

    def sample(
        self, frames_total: int, fps: float | None, *, frames_max: int = 0, fps_max: float = 0.0
    ) -> tuple[int, ...]:
        wanted = min(self._frames, frames_max or self._frames)
        return tuple(np.linspace(0, frames_total - 1, wanted).round().astype(int).tolist())


def clip_under(rules: Every, media: bytes) -> Clip:
    clip = examine(rules, media, Ask("video")).clip
    assert clip is not None
    return clip


FRAME = 320 * 320
"""Pixels: more than the least that counts."""


@pytest.mark.parametrize("own", [False, True])
def test_a_clip_with_too_much_to_decode(own: bool) -> None:
    """GIF: all frames up to the last one that is wanted, which fewer frames do not change."""
    media = encode(moving(24, 320, 320), "gif", "gif")
    assert clip_under(Every(8, true_times=own, pixels_max=24 * FRAME), media).indices[-1] == 23
    with pytest.raises(RequestError, match="too many pixels in total"):
        clip_under(Every(8, true_times=own, pixels_max=23 * FRAME - 1), media)


LONG = {
    "H.264": ("libx264", "mp4", {"x264-params": "keyint=40:min-keyint=40:scenecut=0"}),
    "H.265": ("libx265", "mp4", {"x265-params": "keyint=40:min-keyint=40:scenecut=0:open-gop=0:log-level=none"}),
    "H.264, open groups": ("libx264", "mp4", {"x264-params": "keyint=40:min-keyint=40:scenecut=0:open-gop=1"}),
    "H.265, open groups": (
        "libx265",
        "mp4",
        {"x265-params": "keyint=40:min-keyint=40:scenecut=0:open-gop=1:log-level=none"},
    ),
    "VP9": ("libvpx-vp9", "webm", {"g": "40"}),
    "AV1": ("libsvtav1", "mp4", {"svtav1-params": "keyint=40"}),
    "MPEG-4": ("mpeg4", "mp4", {"g": "40"}),
    "MPEG-2": ("mpeg2video", "matroska", {"g": "40", "bf": "2"}),
}


@pytest.mark.parametrize("kind", LONG)
def test_earlier_frames_are_taken_before_a_clip_is_refused(kind: str) -> None:
    """Frames at a key frame or nearer to it, spread as before, with their own times and their own pixels."""
    codec, container, options = LONG[kind]
    media = encode(moving(160, 320, 320), codec, container, fps=25, **options)
    sequential, shown = decoded(media)
    exact = clip_under(Every(4, true_times=True), media)
    limit = pixels_decoded(exact) // 3
    clip = clip_under(Every(4, true_times=True, pixels_max=limit), media)
    assert pixels_decoded(clip) <= limit < pixels_decoded(exact)
    assert clip.indices != exact.indices
    assert len(clip.indices) == 4
    assert all(after - before > 20 for before, after in pairwise(clip.indices))
    assert clip.seconds == pytest.approx([shown[index] for index in clip.indices], abs=1e-6)
    for pixels, index in zip(decode(media, clip), clip.indices, strict=True):
        np.testing.assert_array_equal(pixels, sequential[index])
    with pytest.raises(RequestError, match="too many pixels in total"):
        clip_under(Every(4, pixels_max=limit), media)


def test_fewer_frames_are_taken_where_earlier_ones_are_too_far() -> None:
    """One key frame in 160 frames, a second each: a frame may move by ten seconds, or by what they are apart."""
    media = encode(moving(160, 320, 320), fps=1, **{"x264-params": "keyint=infinite:scenecut=0"})
    clip = clip_under(Every(16, true_times=True, pixels_max=90 * FRAME), media)
    assert 2 <= len(clip.indices) < 16
    assert clip.seconds[-1] > 60


def test_more_frames_than_key_frames_are_spread_behind_them() -> None:
    media = encode(moving(160, 320, 320), fps=25, **{"x264-params": "keyint=40:min-keyint=40:scenecut=0:bframes=0"})
    clip = clip_under(Every(12, true_times=True, pixels_max=30 * FRAME), media)
    assert len(clip.indices) == 12
    sequential, _ = decoded(media)
    for pixels, index in zip(decode(media, clip), clip.indices, strict=True):
        np.testing.assert_array_equal(pixels, sequential[index])


def test_a_small_frame_has_a_price_of_its_own() -> None:
    media = encode(moving(24, 32, 32), "gif", "gif")
    footage = survey(media)
    with pytest.raises(RequestError, match="too many pixels in total"):
        chosen(footage, lambda _: (0, 23), 0, ClipRules(pixels_max=24 * 100_000 - 1))
    chosen(footage, lambda _: (0, 23), 0, ClipRules(pixels_max=24 * 100_000))


def test_fewer_frames_than_promised() -> None:
    clip = Clip(96, 64, 30, 10.0, (0, 29))
    assert refusal(encode(moving(24)), clip) == "the clip has fewer frames than its file says"


@settings(max_examples=60, deadline=None)
@given(strategies.data())
def test_flipped_bytes_do_no_harm(data: strategies.DataObject) -> None:
    media = bytearray(SMALL[data.draw(strategies.sampled_from(sorted(SMALL)))])
    for _ in range(data.draw(strategies.integers(1, 20))):
        at = data.draw(strategies.integers(0, len(media) - 1))
        media[at] = data.draw(strategies.integers(0, 255))
    with suppress(RequestError):
        taken(bytes(media))


SMALL = {kind: encode(moving(6, 32, 32), *KINDS[kind]) for kind in ("H.264 in MP4", "VP9 in WebM", "GIF")}
