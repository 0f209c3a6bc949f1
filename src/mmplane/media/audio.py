"""Turns encoded sounds into samples: mono, float32, at the processor's rate, and no more than the model hears.

libsndfile (soundfile) decodes WAV, FLAC and Ogg if the file gives its length; if an Ogg is a chain, link after link.
FFmpeg (PyAV) decodes everything else: MP3, AAC, sound in video files, and output of a pipe. libsndfile would stop
where it guesses that an MP3 ends. Channels are averaged and then resampled with soxr's `HQ`, like librosa and
therefore transformers' own loader, block by block. So memory is bounded by what the model hears, whatever the file
claims.

The number of samples is counted by decoding, because headers may be wrong or incomplete.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
from mmplane.media.container import frames, opened, prepared, track
from mmplane.media.signature import kind_of, ogg_links

FORMATS = "WAV, FLAC, Ogg, MP3, M4A, AC-3, MP4, MOV, WebM, MKV, AVI or MPEG"
KINDS = ("wav", "flac", "ogg", "mp3", "aac", "ac3", "mov", "matroska", "avi", "mpegts", "mpeg")
SOUNDFILE_KINDS = ("wav", "flac", "ogg")
SOUNDFILE_FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG")
"""libsndfile's names of the formats that it may decode."""
_UNKNOWN = 2**63 - 1
"""The number of samples that libsndfile returns for a FLAC without one."""
ESTIMATED = ("mp3", "aac", "ac3")
"""Sounds without a header: FFmpeg guesses their length, and damaged parts are left out."""
BLOCK_SECONDS = 1.0

Block = npt.NDArray[np.float32]
"""(samples,), mono."""


@dataclass(frozen=True)
class AudioLimits:
    """Limits of one sound: samples per second, channels, and seconds by its header."""

    rate_min_hz: int = 1_000
    rate_max_hz: int = 384_000
    channels_max: int = 8
    seconds_max: float = 2 * 3600.0


DEFAULT_LIMITS = AudioLimits()


def examine(processor: AudioProcessor, media: bytes | memoryview) -> Recipe:
    """Return how to materialise a sound: the number of samples, and its layout. Raises RequestError (400)."""
    target_hz = processor.sampling_rate_hz
    with _blocks(media) as (rate_hz, blocks):
        enough = ceil(processor.samples_max * rate_hz / target_hz)
        count = 0
        for block in blocks:
            count += len(block)
            if count >= enough:
                break
    if not count:
        raise bad_media("the sound has no samples")
    samples = min(resampled_length(count, rate_hz, target_hz), processor.samples_max)
    return Recipe("audio", processor.layout(samples), samples=samples)


def decode(media: bytes | memoryview, rate_hz: int, samples: int) -> Samples:
    """Return the first `samples` of the sound at `rate_hz`, (samples,) float32. Raises RequestError (400)."""
    out = np.zeros(samples, np.float32)
    end = 0
    with _blocks(media) as (source_hz, blocks):
        for block in _resampled(blocks, source_hz, rate_hz):
            taken = block[: samples - end]
            out[end : end + len(taken)] = taken
            end += len(taken)
            if end == samples:
                break
    if samples - end > 1:  # soxr may round the last sample off; librosa pads it
        raise bad_media("the sound is shorter than it was")
    return out


def resampled_length(count: int, source_hz: int, target_hz: int) -> int:
    """The number of samples that `count` samples have at another rate, as in librosa."""
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
    """Return the rate, and the sound block by block. Raises RequestError (400) and MemoryError, also in the block."""
    kind = kind_of(media)
    if kind not in KINDS:
        raise bad_media(f"the sound's format is not supported: send {FORMATS}")
    links = ogg_links(media) if kind == "ogg" else iter((memoryview(media),))
    with _piece(next(links), kind) as (rate_hz, blocks):
        yield rate_hz, chain(blocks, _further(links, kind, rate_hz))


def _further(links: Iterator[memoryview], kind: str, rate_hz: int) -> Iterator[Block]:
    """Yield the sounds chained after an Ogg's first one, at the first one's rate."""
    for link in links:
        with _piece(link, kind) as (own_hz, blocks):
            yield from _resampled(blocks, own_hz, rate_hz)


@contextmanager
def _piece(media: memoryview, kind: str) -> Iterator[tuple[int, Iterator[Block]]]:
    if kind in SOUNDFILE_KINDS and (file := _whole_file(media)) is not None:
        with _as_bad_media(), file:
            rate_hz = _checked(file.samplerate, file.channels)
            _check_length(file.frames / rate_hz)
            block = round(rate_hz * BLOCK_SECONDS)
            yield rate_hz, _mixed(file.read(block, dtype="float32", always_2d=True) for _ in repeat(None))
        return
    with opened(media, kind, "sound") as container:
        yield _of_container(container, kind)


def _whole_file(media: memoryview) -> soundfile.SoundFile | None:
    """libsndfile's reader, if it knows the sound's length; otherwise it would stop too early, or not start."""
    with _as_bad_media(), suppress(soundfile.LibsndfileError):
        file = soundfile.SoundFile(BytesIO(media))
        if file.format in SOUNDFILE_FORMATS and not file.subtype.startswith("MPEG") and 0 < file.frames < _UNKNOWN:
            return file
        file.close()
    return None


@contextmanager
def _as_bad_media() -> Iterator[None]:
    try:
        yield
    except (RequestError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - decoders raise almost anything
        raise bad_media("the sound cannot be decoded") from None


def _of_container(container: Any, kind: str) -> tuple[int, Iterator[Block]]:
    stream = track(container, "audio")
    if stream is None:
        raise bad_media("the file contains no sound")
    prepared(stream, "sound")
    rate_hz = _checked(stream.codec_context.sample_rate, stream.codec_context.channels)
    if kind not in ESTIMATED:
        _check_length((container.duration or 0) / av.time_base)

    def pieces() -> Iterator[npt.NDArray[np.float32]]:
        convert = _Converter(rate_hz)
        for frame in chain(frames(container, stream, "sound", skip_damaged=kind in ESTIMATED), (None,)):
            yield from convert(frame)
        yield np.zeros((0, 1), np.float32)

    return rate_hz, _mixed(pieces())


class _Converter:
    """Convert frames to (samples, channels) of floats at one rate. In joined files, the frames' format changes."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._form: tuple[str, str, int] | None = None
        self._resampler: Any = None

    def __call__(self, frame: Any | None) -> Iterator[npt.NDArray[np.float32]]:
        """Convert one frame; None ends the sound."""
        if frame is not None and (form := (frame.format.name, frame.layout.name, frame.sample_rate)) != self._form:
            yield from self._resampled(None)
            _checked(frame.sample_rate, len(frame.layout.channels))
            self._form = form
            self._resampler = av.AudioResampler(format="flt", layout=frame.layout, rate=self._rate_hz)
        yield from self._resampled(frame)

    def _resampled(self, frame: Any | None) -> Iterator[npt.NDArray[np.float32]]:
        for same in () if self._resampler is None else self._resampler.resample(frame):
            packed: npt.NDArray[Any] = same.to_ndarray()
            if packed.size:
                yield packed.reshape(-1, len(same.layout.channels)).astype(np.float32, copy=False)


def _checked(rate_hz: int, channels: int, limits: AudioLimits = DEFAULT_LIMITS) -> int:
    if not limits.rate_min_hz <= rate_hz <= limits.rate_max_hz:
        raise bad_media("the sound's sampling rate is not supported")
    if not 1 <= channels <= limits.channels_max:
        raise bad_media("the sound has too many channels")
    return rate_hz


def _check_length(seconds: float, limits: AudioLimits = DEFAULT_LIMITS) -> None:
    if seconds > limits.seconds_max:
        raise bad_media("the sound is too long")


def _mixed(blocks: Iterator[npt.NDArray[np.float32]]) -> Iterator[Block]:
    """Convert (samples, channels) to mono, until an empty block. Raises RequestError (400) for NaN or infinity."""
    for block in blocks:
        if not len(block):
            return
        if not np.isfinite(block).all():
            raise bad_media("the sound contains values that are not numbers")
        yield block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
