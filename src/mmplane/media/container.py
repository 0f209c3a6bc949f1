"""Containers: MP4, Matroska and their like, opened with PyAV (FFmpeg) as what their first bytes say and nothing else.

FFmpeg would also open playlists, which name other files and addresses: so the demuxer is chosen here, from the first
bytes, and none of those chosen opens anything else. Of the decoders only those named here run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import av
import av.logging

from mmplane.core.errors import RequestError, bad_media
from mmplane.process.priority import give_way

DEMUXERS = ("mov", "matroska", "gif", "ogg", "aac")
"""FFmpeg's names of what may be opened."""

VIDEO_CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg4", "mjpeg", "gif")
AUDIO_CODECS = ("aac", "mp3", "mp3float", "opus", "libopus", "vorbis", "flac", "alac", "pcm_s16le", "pcm_s16be")
"""FFmpeg's names of the decoders that may run."""

PIXELS_MAX = 4096 * 2304
"""Pixels of one frame."""
PACKETS_MAX = 250_000
"""In one file, of all its streams: each takes a microsecond or two, and megabytes can hold millions."""
SOUND_PACKETS_MAX = 20_000
"""Up to the last one that is heard: to decode and resample one takes tens of microseconds, be it a single sample."""

_OPTIONS = {"protocol_whitelist": ""}
_PROBING = {"mov": {"probesize": "32"}}
"""What keeps FFmpeg from decoding frames on opening. An MP4's index has all that is asked of a clip."""

av.logging.set_level(av.logging.PANIC)  # what FFmpeg has to say holds pieces of the payload


def kind_of(media: bytes | memoryview) -> str | None:
    """Which demuxer's file this is, by its first bytes; None for all that may not be opened."""
    head = bytes(media[:12])
    if head[4:8] == b"ftyp":
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith(b"OggS"):
        return "ogg"
    return "aac" if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xF6 == 0xF0 else None


@contextmanager
def opened(media: bytes | memoryview, kind: str, items: str, *, probe: bool = True) -> Iterator[Any]:
    """The container, for reading. `items` names in errors what it should hold. Raises RequestError (400).

    With `probe` FFmpeg decodes the first frames of what does not say all of itself. A sound may need that: AAC may have
    twice the rate that its file says.

    Whatever goes wrong inside the block becomes `bad_media` with a fixed text: FFmpeg's own hold pieces of the payload.
    But that there is no memory is not the file's fault (MemoryError, as FFmpeg's ENOMEM is too).
    """
    assert kind in DEMUXERS
    options = _OPTIONS if probe else _OPTIONS | _PROBING.get(kind, {})
    try:
        with av.open(BytesIO(media), format=kind, options=options, metadata_errors="ignore") as container:
            yield container
    except RequestError:
        raise
    except MemoryError:
        raise MemoryError from None  # without FFmpeg's text
    except Exception:  # noqa: BLE001 - decoders raise almost anything
        raise bad_media(f"the {items} cannot be decoded") from None


def prepared(stream: Any, items: str) -> Any:
    """The stream, ready to decode in this thread alone. Raises RequestError (400) for a codec that is not taken."""
    context = stream.codec_context
    if context is None or context.name not in (*VIDEO_CODECS, *AUDIO_CODECS):
        raise bad_media(f"the {items}'s codec is not supported")
    context.options = {"max_pixels": str(PIXELS_MAX)}
    stream.thread_type = "NONE"
    context.thread_count = 1
    return stream


def packets(container: Any, stream: Any, items: str) -> Iterator[Any]:
    """This stream's packets, the last of them empty. Raises RequestError (400) when the file has too many in all."""
    most = SOUND_PACKETS_MAX if stream.type == "audio" else PACKETS_MAX
    for count, packet in enumerate(container.demux()):
        if count >= most:
            raise bad_media(f"the {items}'s file has too many parts")
        if packet.stream.index == stream.index:
            give_way()
            yield packet


def frames(container: Any, stream: Any, items: str) -> Iterator[Any]:
    """This stream's frames, decoded one after the other. Raises RequestError (400) as `packets`."""
    for packet in packets(container, stream, items):
        yield from packet.decode()
