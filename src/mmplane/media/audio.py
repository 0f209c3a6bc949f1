"""Encoded sounds to samples: mono, float32, at the rate that the processor wants, no more than the model hears.

libsndfile (soundfile) decodes WAV, FLAC, Ogg and MP3; FFmpeg (PyAV) decodes AAC and what is inside of video files.
Channels are averaged, then resampled by soxr's `HQ`, as librosa and so transformers' own loader do it, block by block:
memory is bounded by what the model hears, whatever the file says.

How many samples a sound has is counted by decoding it: headers lie, and some do not say.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, repeat
from math import ceil
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from mmplane.core.errors import RequestError, bad_media
from mmplane.core.records import Recipe
from mmplane.features.contract.audio import AudioProcessor, Samples
from mmplane.media.container import frames, kind_of, opened, prepared

FORMATS = "WAV, FLAC, Ogg, MP3, M4A, MP4, WebM or MKV"
SOUNDFILE_FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MPEG", "MP3")
"""libsndfile's names of what may be decoded; nothing else is tried."""
BLOCK_SECONDS = 1.0

Block = npt.NDArray[np.float32]
"""(samples,), mono."""


@dataclass(frozen=True)
class AudioLimits:
    """What one sound may be: samples a second, channels, and seconds by its header's word, of which the model hears the
    first."""

    rate_min_hz: int = 1_000
    rate_max_hz: int = 384_000
    channels_max: int = 8
    seconds_max: float = 2 * 3600.0


DEFAULT_LIMITS = AudioLimits()


def examine(processor: AudioProcessor, media: bytes | memoryview) -> Recipe:
    """How to materialise a sound: how many samples the model hears, and its layout. Raises RequestError (400)."""
    target_hz = processor.sampling_rate_hz
    with _blocks(media) as (rate_hz, blocks):
        enough = ceil(processor.samples_max * rate_hz / target_hz)
        count = 0
        for block in blocks:
            count += len(block)
            if count >= enough:
                break
    samples = min(resampled_length(count, rate_hz, target_hz), processor.samples_max)
    return Recipe("audio", processor.layout(samples), samples=samples)


def decode(media: bytes | memoryview, rate_hz: int, samples: int) -> Samples:
    """The first `samples` of the sound at `rate_hz`, (samples,) float32. Raises RequestError (400)."""
    out = np.zeros(samples, np.float32)
    end = 0
    with _blocks(media) as (source_hz, blocks):
        for block in _resampled(blocks, source_hz, rate_hz):
            taken = block[: samples - end]
            out[end : end + len(taken)] = taken
            end += len(taken)
            if end == samples:
                break
    if samples - end > 1:  # soxr may round the last one off; librosa pads it
        raise bad_media("the sound is shorter than it was")
    return out


def resampled_length(count: int, source_hz: int, target_hz: int) -> int:
    """How many samples a sound of `count` has at another rate, as librosa has it."""
    return -(-count * target_hz // source_hz)


def _resampled(blocks: Iterator[Block], source_hz: int, target_hz: int) -> Iterator[Block]:
    if source_hz == target_hz:
        yield from blocks
        return
    stream = soxr.ResampleStream(source_hz, target_hz, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


@contextmanager
def _blocks(media: bytes | memoryview) -> Iterator[tuple[int, Iterator[Block]]]:
    """Samples a second, and the sound block by block. Raises RequestError (400) and MemoryError, in the block too."""
    kind = kind_of(media)
    if kind in ("mov", "matroska", "aac"):
        with opened(media, kind, "sound") as container:
            yield _of_container(container)
        return
    if not _is_soundfile(media):
        raise bad_media(f"the sound's format is not supported: send {FORMATS}")
    try:
        with soundfile.SoundFile(BytesIO(media)) as file:
            if file.format not in SOUNDFILE_FORMATS:
                raise bad_media(f"the sound's format is not supported: send {FORMATS}")
            rate_hz = _checked(file.samplerate, file.channels)
            _check_length(file.frames / rate_hz)  # 2^63 - 1 of a FLAC that does not say; libsndfile could not read it
            block = round(rate_hz * BLOCK_SECONDS)
            yield rate_hz, _mixed(file.read(block, dtype="float32", always_2d=True) for _ in repeat(None))
    except (RequestError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - decoders raise almost anything
        raise bad_media("the sound cannot be decoded") from None


def _is_soundfile(media: bytes | memoryview) -> bool:
    head = bytes(media[:12])
    wave = head[:4] == b"RIFF" and head[8:12] == b"WAVE"
    mpeg = head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0
    return wave or mpeg or head.startswith((b"fLaC", b"OggS", b"ID3"))


def _of_container(container: Any) -> tuple[int, Iterator[Block]]:
    if not container.streams.audio:
        raise bad_media("the file holds no sound")
    stream = prepared(container.streams.audio[0], "sound")
    rate_hz = _checked(stream.codec_context.sample_rate, stream.codec_context.channels)
    _check_length((container.duration or 0) / av.time_base)
    convert = av.AudioResampler(format="flt", layout=stream.codec_context.layout, rate=rate_hz)

    def pieces() -> Iterator[npt.NDArray[np.float32]]:
        for frame in chain(frames(container, stream, "sound"), (None,)):
            for same in convert.resample(frame):
                packed: npt.NDArray[Any] = same.to_ndarray()
                yield packed.reshape(-1, len(same.layout.channels)).astype(np.float32, copy=False)
        yield np.zeros((0, 1), np.float32)

    return rate_hz, _mixed(pieces())


def _checked(rate_hz: int, channels: int, limits: AudioLimits = DEFAULT_LIMITS) -> int:
    if not limits.rate_min_hz <= rate_hz <= limits.rate_max_hz:
        raise bad_media("the sound's sampling rate is not supported")
    if not 1 <= channels <= limits.channels_max:
        raise bad_media("the sound has too many channels")
    return rate_hz


def _check_length(seconds: float, limits: AudioLimits = DEFAULT_LIMITS) -> None:
    if seconds > limits.seconds_max:
        raise bad_media("the sound is too long, or does not say how long it is")


def _mixed(blocks: Iterator[npt.NDArray[np.float32]]) -> Iterator[Block]:
    """(samples, channels) to mono, until an empty one. What is no number is no sound."""
    for block in blocks:
        if not len(block):
            return
        if not np.isfinite(block).all():
            raise bad_media("the sound holds values that are no numbers")
        yield block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
