"""Turns encoded clips into frames: first determines which frames there are, then decodes the sampled ones in order.

`examine` reads the whole container and decodes one frame, or the beginning of it, for its size. Every packet tells when
its frame is shown, so the times of all frames are known, and their number does not depend on the header. `decode` goes
through the frames from the first to the last that is wanted, and skips those that they do not need
(`mmplane.media.gops`). Both run where a native decoder may crash without harm.

Frames are turned as the file says, as in players. Colours are those of PyAV's own conversion to RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import av
import av.error
import numpy as np
from av.video.reformatter import VideoReformatter

from mmplane.core.errors import bad_media
from mmplane.core.records import Ask, Clip, Recipe
from mmplane.features.contract.image import Pixels
from mmplane.features.contract.video import LIBRARY_RULES, ClipRules, VideoProcessor
from mmplane.media.container import PIXELS_MAX, frames, opened, packets, prepared, track
from mmplane.media.footage import Footage, chosen, pixels_decoded
from mmplane.media.gops import Unit, beginning_of, read_of, unreadable
from mmplane.media.signature import kind_of

FORMATS = "MP4, MOV, WebM, MKV, AVI, MPEG or GIF"
KINDS = ("mov", "matroska", "gif", "avi", "mpegts", "mpeg")

VP8_SHOWN = 0x10
"""Bit in a VP8 frame's first byte (RFC 6386, 9.1): no container marks packets that show nothing."""


UNREFERENCED_CODECS = frozenset({"h264"})
"""Codecs that mark frames to which no other refers (nal_ref_idc 0), so that they can be skipped for others."""

KEYED_CODECS = frozenset({"mpeg4", "msmpeg4", "h263", "mpeg1video", "mpeg2video"})
"""Codecs whose marked key frames can be decoded alone; frames after one may refer to frames before it. A GIF's frames
are parts of a picture.
"""

OF_SIZES_ALONE = {"skip_loop_filter": "all", "enable_er": "0"}
"""Decoder options for a frame of which only the size is needed. `enable_er`: H.264's guesses at lost pixels."""

DELAY_MAX = 100
"""Maximum packets until a decoder returns its first frame: known decoders need 16 or 25."""
FRAMES_MAX = 20_000
"""Maximum frames of a clip that can only be decoded frame by frame. For others, packets are limited."""
ASPECT_MAX = 200
"""Maximum ratio of the longer side to the shorter one."""


def examine(processor: VideoProcessor, media: bytes | memoryview, ask: Ask) -> Recipe:
    """Return how to materialise a clip: its size, its sampled frames, and its layout. Raises RequestError (400)."""
    footage = survey(media, processor.rules)
    if processor.rules.true_times:
        footage = replace(footage, fps=footage.true_fps)

    def sample(frames_max: int) -> tuple[int, ...]:
        return processor.sample(len(footage.seconds), footage.fps, frames_max=frames_max, fps_max=ask.fps_max)

    clip = chosen(footage, sample, ask.frames_max, processor.rules)
    return Recipe("video", processor.layout(clip), clip=clip)


def survey(media: bytes | memoryview, rules: ClipRules = LIBRARY_RULES) -> Footage:
    """Read the whole container and decode one frame. Raises RequestError (400)."""
    kind = _kind(media)
    with opened(media, kind, "clip", probe=False) as container:
        stream = _stream(container)
        stream.codec_context.options |= OF_SIZES_ALONE
        rate = stream.average_rate
        size, shown, units, keys = _shown(container, stream, timed=kind != "avi")
    if size is None or not shown:
        raise bad_media("the clip has no frames")
    if shown[-1] - shown[0] > rules.seconds_max:
        raise bad_media(f"the clip is too long: this server accepts at most {rules.seconds_max:.16g} seconds")
    if not (units or keys) and len(shown) > FRAMES_MAX:
        raise bad_media("the clip has too many frames")
    width, height = size
    if max(width, height) > ASPECT_MAX * min(width, height):
        raise bad_media("the clip is too long for its width")
    return Footage(width, height, tuple(shown), float(rate) if rate else None, units, keys)


def decode(media: bytes | memoryview, clip: Clip) -> Generator[Pixels, None, None]:
    """Yield the sampled frames, (height, width, 3) uint8 RGB, as they are decoded. Raises RequestError (400)."""
    left, converter = len(clip.indices), VideoReformatter()
    with opened(media, _kind(media), "clip", probe=False) as container:
        stream = _stream(container)
        for frame in _sampled(container, stream, clip):
            yield _pixels(frame, (clip.width, clip.height), converter)
            left -= 1
            if not left:
                return
    raise bad_media("the clip has fewer frames than its file says")


def _sampled(container: Any, stream: Any, clip: Clip) -> Iterator[Any]:
    """The frames in the clip's record, in order."""
    if clip.runs:
        yield from _needed(container, stream, clip)
        return
    wanted, within = frozenset(clip.indices), _Allowance(clip)
    for index, frame in enumerate(frames(container, stream, "clip")):
        within.take(frame)
        if index in wanted:
            yield frame


def _needed(container: Any, stream: Any, clip: Clip) -> Iterator[Any]:
    """Yield the frames at the clip's times from its runs of packets, decoding others only if they are needed."""
    decoder, wanted_s, runs_left = stream.codec_context, frozenset(clip.seconds), iter(clip.runs)
    left_s: set[float | None] = set(wanted_s)
    may_refer = "NONREF" if decoder.name in UNREFERENCED_CODECS else "DEFAULT"
    within, seconds = _Allowance(clip), _seconds(stream)

    def wanted(decoded: list[Any]) -> Iterator[Any]:
        for frame in decoded:
            within.take(frame)
            shown_s = seconds(frame.pts)
            if shown_s in left_s:
                left_s.remove(shown_s)
                yield frame

    first, beyond = next(runs_left)
    for at, packet in enumerate(packet for packet in packets(container, stream, "clip") if packet.size):
        if at < first:
            continue
        needed = packet.pts is None or seconds(packet.pts) in wanted_s
        decoder.skip_frame = "DEFAULT" if needed else may_refer
        yield from wanted(packet.decode())
        if at + 1 == beyond:
            yield from wanted(decoder.decode(None))
            decoder.flush_buffers()
            if (run := next(runs_left, None)) is None:
                return
            first, beyond = run


class _Allowance:
    """Pixels that may still be decoded: later frames may be larger than the first one, which the limit was based on."""

    def __init__(self, clip: Clip) -> None:
        self._left = max(pixels_decoded(clip), LIBRARY_RULES.pixels_max)

    def take(self, frame: Any) -> None:
        """Raises RequestError (400) if the limit is exceeded."""
        self._left -= frame.width * frame.height
        if self._left < 0:
            raise bad_media("the clip's later frames are larger and have too many pixels in total")


def _kind(media: bytes | memoryview) -> str:
    kind = kind_of(media)
    if kind not in KINDS:
        raise bad_media(f"the clip's format is not supported: send {FORMATS}")
    return kind


def _stream(container: Any) -> Any:
    found = track(container, "video")
    if found is None:
        raise bad_media("the file contains no video")
    stream = prepared(found, "clip")
    context = stream.codec_context
    if context.width * context.height > PIXELS_MAX:
        raise bad_media("the clip's frames have too many pixels")
    return stream


def _seconds(stream: Any) -> Callable[[int | None], float | None]:
    """Return a function from a packet's or frame's timestamp to seconds.

    It does not use `Fraction`, which takes microseconds each time: the quotient of two integers is rounded as exactly.
    """
    numerator, denominator = stream.time_base.as_integer_ratio()
    return lambda pts: None if pts is None else pts * numerator / denominator


def _shown(
    container: Any, stream: Any, *, timed: bool
) -> tuple[tuple[int, int] | None, list[float], tuple[Unit, ...], tuple[tuple[int, float], ...]]:
    """Return a frame's size, the times of all frames in display order, what its packets contain if they can be parsed,
    and the container's key frames. `timed`: the container gives the time of each packet's own frame, which AVI does
    not.

    If a clip starts in the middle of a group, frames shown before its first packet refer to missing ones.
    """
    size: tuple[int, int] | None = None
    first_s, shown, units, keys, number = None, [], [], [], -1
    keyed = stream.codec_context.name in KEYED_CODECS
    hides = stream.codec_context.name == "vp8"
    read = read_of(stream.codec_context.name, stream.codec_context.extradata) if timed else None
    seconds = _seconds(stream)
    for count, packet in enumerate(packets(container, stream, "clip")):
        shown_s = seconds(packet.pts)
        first_s = shown_s if first_s is None else first_s
        hidden = packet.is_discard or (hides and packet.size and not memoryview(packet)[0] & VP8_SHOWN)
        if packet.size and shown_s is not None and not hidden:
            shown.append(shown_s)
        number += bool(packet.size)
        if keyed and packet.size and packet.is_keyframe and shown_s is not None:
            keys.append((number, shown_s))
        if read is not None and packet.size:
            if packet.has_sidedata("new_extradata"):  # other parameter sets, from the container
                read = unreadable
            units.append(read(memoryview(packet), shown_s))
        if size is None and count == DELAY_MAX:
            raise bad_media("the clip cannot be decoded")
        if size is None and (decoded := _decoded_now(stream.codec_context, packet) if count == 0 else packet.decode()):
            size = _size(decoded[0])
    if units:  # frames are identified by their times; of two packets with one time, the second holds the other field
        closed = units[0].begins and not units[0].open
        shown = list({at_s for at_s in shown if closed or first_s is None or at_s >= first_s})
    return size, sorted(shown), tuple(units), tuple(keys)


def _decoded_now(decoder: Any, packet: Any) -> list[Any]:
    """Return the frames of a clip's first packet, for their size only: most pixels may be missing.

    A decoder that reorders frames returns the first one after sixteen or more packets, unless it is told that no
    packet follows. Then it has to restart, so this packet is decoded twice if it returned nothing.
    """
    beginning = beginning_of(decoder.name, decoder.extradata, memoryview(packet)) if packet.size else None
    decoded: list[Any] = []
    if beginning is not None and not packet.has_sidedata("new_extradata"):
        with suppress(av.error.InvalidDataError):  # decoding all of it works, or tells what is wrong
            decoded = decoder.decode(av.Packet(beginning)) or decoder.decode(None)
        decoder.flush_buffers()
    if not decoded:
        decoded = packet.decode() or decoder.decode(None)
        decoder.flush_buffers()
    return decoded or packet.decode()


def _size(frame: Any) -> tuple[int, int]:
    """Width and height in pixels, as in `_pixels`."""
    return (frame.height, frame.width) if _turns(frame) % 2 else (frame.width, frame.height)


def _pixels(frame: Any, size: tuple[int, int], converter: VideoReformatter) -> Pixels:
    """The frame as shown. Frames of another size are scaled to the first one's, as in players: calls start small.

    The conversion runs in this thread: a frame's own converter would start one for each core, for this frame alone.
    """
    turns = _turns(frame)
    width, height = size[::-1] if turns % 2 else size
    rgb: Any = converter.reformat(frame, width, height, "rgb24", threads=1)
    pixels: Pixels = rgb.to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _turns(frame: Any) -> int:
    """Quarter turns, counterclockwise."""
    turns: int = round(frame.rotation / 90) % 4
    return turns
