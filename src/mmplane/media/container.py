"""Containers: MP4, Matroska and their like, opened with PyAV (FFmpeg) as what their first bytes say and nothing else.

The demuxer is chosen by `mmplane.media.signature`, and of the decoders only those named here run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
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
"""Pixels of one frame."""
PACKETS_MAX = 250_000
"""In one file, of all its streams: each takes a microsecond or two, and megabytes can hold millions."""
SOUND_PACKETS_MAX = 50_000
"""Up to the last one that is heard: to decode and resample one takes tens of microseconds, be it a single sample."""

_OPTIONS = {"protocol_whitelist": ""}
_TIMES = {"avi": {"fflags": "+genpts"}, "mpeg": {"fflags": "+genpts"}}
"""What has FFmpeg say when a packet is shown, where the container says no more than when it is decoded."""
_PROBING = {"mov": {"probesize": "32"}}
"""What keeps FFmpeg from decoding frames on opening. An MP4's index has all that is asked of a clip."""

av.logging.set_level(av.logging.PANIC)  # what FFmpeg has to say holds pieces of the payload


@contextmanager
def opened(media: bytes | memoryview, kind: str, items: str, *, probe: bool = True) -> Iterator[Any]:
    """The container, for reading. `items` names in errors what it should hold. Raises RequestError (400).

    With `probe` FFmpeg decodes the first frames of what does not say all of itself. A sound may need that: AAC may have
    twice the rate that its file says.

    Whatever goes wrong inside the block becomes `bad_media` with a fixed text: FFmpeg's own hold pieces of the payload.
    But that there is no memory is not the file's fault (MemoryError, as FFmpeg's ENOMEM is too).
    """
    assert kind in DEMUXERS
    options = _OPTIONS | _TIMES.get(kind, {})
    if not probe:
        options = options | _PROBING.get(kind, {})
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


def track(container: Any, kind: str) -> Any | None:
    """The default track of this kind, `video` or `audio`, as players take it; None without any. A cover is no track."""
    tracks = [each for each in getattr(container.streams, kind) if not each.disposition & Disposition.attached_pic]
    best = container.streams.best(kind)
    if best in tracks:
        return best
    return next((each for each in tracks if each.disposition & Disposition.default), next(iter(tracks), None))


def frames(container: Any, stream: Any, items: str, *, skip_damaged: bool = False) -> Iterator[Any]:
    """This stream's frames, decoded one after the other. Raises RequestError (400) as `packets`.

    `skip_damaged` goes on behind a packet that cannot be decoded, as players do.
    """
    for packet in packets(container, stream, items):
        try:
            decoded = packet.decode()
        except av.error.InvalidDataError:
            if not skip_damaged:
                raise
            continue
        yield from decoded
