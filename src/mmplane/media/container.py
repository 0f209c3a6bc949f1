"""Containers (MP4, Matroska and others), opened with PyAV (FFmpeg) only as the format that their first bytes show.

`mmplane.media.signature` chooses the demuxer, and only the decoders listed here run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import SEEK_CUR, SEEK_END, SEEK_SET
from typing import Any

import av
import av.error
import av.logging
from av.stream import Disposition

from mmplane.core.errors import RequestError, bad_media
from mmplane.media.signature import DEMUXERS
from mmplane.process.priority import give_way

VIDEO_CODECS = (
    *("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg4", "mjpeg", "gif"),
    *("prores", "mpeg1video", "mpeg2video", "h263", "msmpeg4"),
)
AUDIO_CODECS = (
    *("aac", "mp3", "mp3float", "mp2", "mp2float", "opus", "libopus", "vorbis", "flac", "alac", "ac3", "eac3"),
    *("amrnb", "amrwb", "pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be"),
    *("pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be"),
)
"""FFmpeg's names of the decoders that may run."""

PIXELS_MAX = 4096 * 2304
"""Maximum pixels of one frame."""
PACKETS_MAX = 250_000
"""Maximum packets in all streams of one file: each takes a microsecond or two, and megabytes can hold millions."""
SOUND_PACKETS_MAX = 50_000
"""Maximum packets up to the last one that is heard: each takes tens of microseconds, even with a single sample."""

_OPTIONS = {"protocol_whitelist": ""}
_TIMES = {"avi": {"fflags": "+genpts"}, "mpeg": {"fflags": "+genpts"}}
"""Makes FFmpeg compute when a packet is shown, if the container only says when it is decoded."""
_PROBING = {"mov": {"probesize": "32", "codec_whitelist": ""}}
"""Keeps FFmpeg from decoding frames on opening. An MP4's index has everything that is needed of a clip.

With `probesize` alone it would still decode the first packet: in a clip without sound, a whole picture.
"""

av.logging.set_level(av.logging.PANIC)  # FFmpeg's messages contain pieces of the payload


@contextmanager
def opened(media: bytes | memoryview, kind: str, items: str, *, probe: bool = True) -> Iterator[Any]:
    """Open the container for reading. `items` names its expected content in errors. Raises RequestError (400).

    With `probe` FFmpeg decodes the first frames of files with incomplete headers. A sound may need that: AAC may have
    twice the rate that its file gives.

    Any error inside the block becomes `bad_media` with a fixed text, because FFmpeg's texts contain pieces of the
    payload. Only a lack of memory is not the file's fault (MemoryError, as FFmpeg's ENOMEM).
    """
    assert kind in DEMUXERS
    options = _OPTIONS | _TIMES.get(kind, {})
    if not probe:
        options = options | _PROBING.get(kind, {})
    try:
        with (
            memoryview(media) as view,
            av.open(_File(view), format=kind, options=options, metadata_errors="ignore") as container,
        ):
            yield container
    except RequestError:
        raise
    except MemoryError:
        raise MemoryError from None  # without FFmpeg's text
    except Exception:  # noqa: BLE001 - decoders raise almost anything
        raise bad_media(f"the {items} cannot be decoded") from None


class _File:
    """Media as a file that FFmpeg reads in pieces of 32 KiB. `BytesIO` would copy all of it first."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def read(self, length_bytes: int) -> bytes:
        """Return the next bytes; fewer at the end."""
        piece = bytes(self._view[self._at : self._at + length_bytes])
        self._at += len(piece)
        return piece

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Move, and return the new position. Raises ValueError before the beginning."""
        at = offset + {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: len(self._view)}[whence]
        if at < 0:
            raise ValueError("before the beginning of the file")
        self._at = at
        return at

    def tell(self) -> int:
        """Return the position."""
        return self._at


def prepared(stream: Any, items: str) -> Any:
    """Return the stream, ready to decode in this thread. Raises RequestError (400) for an unsupported codec."""
    context = stream.codec_context
    if context is None or context.name not in (*VIDEO_CODECS, *AUDIO_CODECS):
        raise bad_media(f"the {items}'s codec is not supported")
    context.options = {"max_pixels": str(PIXELS_MAX)}
    stream.thread_type = "NONE"
    context.thread_count = 1
    return stream


def packets(container: Any, stream: Any, items: str) -> Iterator[Any]:
    """Yield this stream's packets, the last one empty. Raises RequestError (400) if the file has too many packets."""
    most = SOUND_PACKETS_MAX if stream.type == "audio" else PACKETS_MAX
    for count, packet in enumerate(container.demux()):
        if count >= most:
            raise bad_media(f"the {items}'s file has too many parts")
        if packet.stream.index == stream.index:
            give_way()
            yield packet


def track(container: Any, kind: str) -> Any | None:
    """The default track of this kind, `video` or `audio`, as players choose it, or None. A cover is not a track."""
    tracks = [each for each in getattr(container.streams, kind) if not each.disposition & Disposition.attached_pic]
    best = container.streams.best(kind)
    if best in tracks:
        return best
    return next((each for each in tracks if each.disposition & Disposition.default), next(iter(tracks), None))


def frames(container: Any, stream: Any, items: str, *, skip_damaged: bool = False) -> Iterator[Any]:
    """Yield this stream's frames, decoded one after the other. Raises RequestError (400) like `packets`.

    `skip_damaged` continues after a packet that cannot be decoded, as players do.
    """
    for packet in packets(container, stream, items):
        try:
            decoded = packet.decode()
        except av.error.InvalidDataError:
            if not skip_damaged:
                raise
            continue
        yield from decoded
