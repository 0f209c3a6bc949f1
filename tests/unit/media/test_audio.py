"""Sounds: the samples that soundfile gives, averaged and resampled as librosa does it; everything else is refused."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import soxr
from av.stream import Disposition
from hypothesis import given, settings, strategies

from clips import encode, moving
from mmplane.core.errors import RequestError
from mmplane.core.records import Layout, Recipe
from mmplane.features.contract.arrays import Arrays
from mmplane.features.contract.audio import AudioProcessor, Samples
from mmplane.media import audio
from mmplane.media.audio import decode, examine, resampled_length
from sounds import REAL, cut_short, flac_saying, real, speech_like, wave_from_a_pipe, write, write_in_container

RATE_HZ = 16_000
FORMATS: dict[str, tuple[str, str | None]] = {
    "WAV": ("WAV", "PCM_16"),
    "WAV, 24 bit": ("WAV", "PCM_24"),
    "WAV, 8 bit": ("WAV", "PCM_U8"),
    "WAV, float": ("WAV", "FLOAT"),
    "WAV, A-law": ("WAV", "ALAW"),
    "FLAC": ("FLAC", None),
    "Vorbis": ("OGG", "VORBIS"),
    "Opus": ("OGG", "OPUS"),
    "MP3": ("MP3", None),
}


class Hears(AudioProcessor):
    """A processor that hears so many seconds."""

    def __init__(self, seconds: float = 30.0) -> None:
        self._seconds = seconds

    @property
    def fingerprint(self) -> bytes:
        return b""

    @property
    def placeholder_id(self) -> int:
        return 1

    @property
    def sampling_rate_hz(self) -> int:
        return RATE_HZ

    @property
    def samples_max(self) -> int:
        return round(self._seconds * RATE_HZ)

    def layout(self, samples: int) -> Layout:
        return Layout((), ((1, samples),), 1)

    def write(self, samples: Samples, out: Arrays) -> int:
        raise NotImplementedError

    def warm(self) -> None:
        raise NotImplementedError


def heard(media: bytes, seconds: float = 30.0) -> Samples:
    recipe = examine(Hears(seconds), media)
    assert recipe == Recipe("audio", Layout((), ((1, recipe.samples),), 1), samples=recipe.samples)
    samples = decode(media, RATE_HZ, recipe.samples)
    assert (samples.dtype, samples.shape) == (np.float32, (recipe.samples,))
    return samples


def expected(media: bytes) -> Samples:
    """What librosa.load gives: soundfile's samples, averaged, resampled in one piece, of the rounded-up length."""
    sound, rate_hz = soundfile.read(io.BytesIO(media), dtype="float32", always_2d=True)
    mono = sound[:, 0] if sound.shape[1] == 1 else sound.mean(axis=1)
    if rate_hz == RATE_HZ:
        return np.asarray(mono)
    whole = np.zeros(-(-len(mono) * RATE_HZ // rate_hz), np.float32)
    resampled = soxr.resample(mono, rate_hz, RATE_HZ, quality="HQ")[: len(whole)]
    whole[: len(resampled)] = resampled
    return whole


def refusal(media: bytes) -> str:
    with pytest.raises(RequestError) as caught:
        heard(media)
    assert (caught.value.status, caught.value.code) == (400, "invalid_media")
    return caught.value.message


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 48_000])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format(name: str, rate_hz: int, channels: int) -> None:
    media = write(speech_like(2.3, rate_hz, channels), rate_hz, *FORMATS[name])
    # FFmpeg's decoder of MP3 rounds otherwise than libsndfile's.
    np.testing.assert_allclose(heard(media), expected(media), rtol=0, atol=3e-6 if name == "MP3" else 0, strict=True)


@settings(max_examples=40, deadline=None)
@given(rate_hz=strategies.integers(1_000, 96_000), count=strategies.integers(1, 50_000))
def test_any_rate_and_length(rate_hz: int, count: int) -> None:
    media = write(speech_like(1.0, 50_000)[:count], rate_hz, "WAV", "FLOAT")
    np.testing.assert_array_equal(heard(media, 60.0), expected(media), strict=True)
    assert len(heard(media, 60.0)) == resampled_length(count, rate_hz, RATE_HZ)


@pytest.mark.parametrize("kind", [None, *FORMATS])
@pytest.mark.parametrize("name", REAL)
def test_real_speech(name: str, kind: str | None) -> None:
    """As it comes, and as soundfile writes it. FFmpeg's decoder of MP3 rounds otherwise than libsndfile's."""
    media = real(name)
    sound, rate_hz = soundfile.read(io.BytesIO(media), dtype="float32")
    assert rate_hz == 48_000
    assert np.abs(sound).max() > 0.1
    if kind is not None:
        media = write(sound, rate_hz, *FORMATS[kind])
    np.testing.assert_allclose(heard(media), expected(media), rtol=0, atol=3e-6 if kind == "MP3" else 0, strict=True)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_no_more_is_decoded_than_is_heard(rate_hz: int) -> None:
    media = write(speech_like(3.0, rate_hz), rate_hz, "WAV", "PCM_16")
    short = heard(media, 1.5)
    assert len(short) == 24_000
    np.testing.assert_array_equal(short, expected(media)[:24_000])
    broken = media[:44] + media[44 : 44 + 5 * rate_hz] + b"\xff" * (len(media) - 44 - 5 * rate_hz)
    np.testing.assert_array_equal(heard(broken, 1.5), short)


@pytest.mark.parametrize(("codec", "container"), [("aac", "mp4"), ("libopus", "webm"), ("aac", "adts")])
@pytest.mark.parametrize("channels", [1, 2])
def test_containers(codec: str, container: str, channels: int) -> None:
    media = write_in_container(speech_like(1.7, 48_000, channels), 48_000, codec, container)
    with av.open(io.BytesIO(media)) as opened:
        frames: Any = np.concatenate([frame.to_ndarray() for frame in opened.decode(audio=0)], axis=1)
    mono = frames[0] if channels == 1 else frames.mean(axis=0, dtype=np.float32)
    wave = write(mono, 48_000, "WAV", "FLOAT")
    np.testing.assert_allclose(heard(media), expected(wave), atol=1e-6)


@pytest.mark.parametrize(
    "media",
    [b"", b"\x00" * 64, b"FORM\x00\x00\x00\x00AIFFCOMM", b".snd" + bytes(60), b"MThd" + bytes(60), b"#EXTM3U\nx"],
)
def test_what_is_no_sound_is_refused_and_told_what_is(media: bytes) -> None:
    assert refusal(media).startswith("the sound's format is not supported: send WAV, FLAC, Ogg, MP3")


def test_a_film_without_sound() -> None:
    assert refusal(encode(moving(3))) == "the file contains no sound"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_no_sound(value: float) -> None:
    sound = speech_like(0.5)
    sound[4_000] = value
    assert refusal(write(sound, RATE_HZ, "WAV", "FLOAT")) == "the sound contains values that are not numbers"


@pytest.mark.parametrize("rate_hz", [1, 999, 384_001, 2**31 - 1])
def test_a_forged_rate(rate_hz: int) -> None:
    media = bytearray(write(speech_like(0.1), RATE_HZ, "WAV", "PCM_16"))
    media[24:28] = rate_hz.to_bytes(4, "little")
    assert refusal(bytes(media)) == "the sound's sampling rate is not supported"


def test_a_sound_that_says_it_is_too_long() -> None:
    def flac_of(samples: int) -> bytes:
        return flac_saying(speech_like(0.5), RATE_HZ, samples)

    for samples in (2**36 - 1, 7_200 * RATE_HZ + 1):
        assert refusal(flac_of(samples)) == "the sound is too long"
    assert refusal(flac_of(7_200 * RATE_HZ)) == "the sound cannot be decoded"
    assert len(heard(flac_of(RATE_HZ // 2))) == RATE_HZ // 2


CUT_SHORT = cut_short()


@pytest.mark.parametrize("name", CUT_SHORT)
def test_a_sound_is_read_to_its_end(name: str) -> None:
    """Encoders pad MP3s to whole frames, so these are up to 0.1 seconds longer for each piece."""
    media, seconds = CUT_SHORT[name]
    samples = heard(media)
    assert seconds - 0.01 < len(samples) / RATE_HZ < seconds + 0.2
    last = samples[int((seconds - 0.3) * RATE_HZ) :]
    assert np.abs(last).max() > 0.1, "its end is no silence"


def test_links_of_an_ogg_sound_as_they_do_alone() -> None:
    one, other = (write(speech_like(1.0, 48_000, seed=seed), 48_000, "OGG", "VORBIS") for seed in (1, 2))
    both = heard(one + other)
    assert len(both) == 2 * RATE_HZ
    np.testing.assert_array_equal(both[: RATE_HZ // 2], heard(one)[: RATE_HZ // 2])
    np.testing.assert_allclose(both[-RATE_HZ // 2 :], heard(other)[-RATE_HZ // 2 :], atol=1e-6)


@pytest.mark.parametrize(
    ("codec", "container"),
    [
        ("pcm_s24le", "mov"),
        ("pcm_f32le", "matroska"),
        ("pcm_s16be", "mov"),
        ("ac3", "mpegts"),
        ("ac3", "ac3"),
        ("eac3", "mp4"),
        ("mp2", "mpegts"),
        ("libmp3lame", "avi"),
        ("pcm_s16le", "avi"),
        ("alac", "ipod"),
    ],
)
def test_every_codec_in_containers(codec: str, container: str) -> None:
    file, sound = io.BytesIO(), speech_like(1.2, 48_000)
    with av.open(file, "w", format=container) as out:
        stream: Any = out.add_stream(codec, rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        for each in (frame, None):
            out.mux(stream.encode(each))
    samples = heard(file.getvalue())
    assert 1.19 < len(samples) / RATE_HZ < 1.4
    assert np.abs(samples[int(0.9 * RATE_HZ) :]).max() > 0.1


def test_the_default_track_is_heard() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        streams: list[Any] = [out.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono") for _ in range(2)]
        streams[1].disposition = Disposition.default
        streams[0].disposition = Disposition(0)
        for stream, value in zip(streams, (1_000, 9_000), strict=True):
            frame = av.AudioFrame.from_ndarray(np.full((1, RATE_HZ), value, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE_HZ, 0
            out.mux([*stream.encode(frame), *stream.encode(None)])
    assert set(heard(file.getvalue())) == {np.float32(9_000 / 32_768)}


def test_a_sound_without_samples() -> None:
    assert refusal(wave_from_a_pipe(np.zeros(0, np.float32), RATE_HZ)).startswith("the sound ")


def test_no_more_is_read_than_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in blocks of a second, once for looking and once for decoding."""
    mixed, seconds = audio._mixed, 0

    def counted(blocks: Any) -> Any:
        nonlocal seconds
        for block in mixed(blocks):
            seconds += 1
            yield block

    monkeypatch.setattr(audio, "_mixed", counted)
    heard(write(speech_like(20.0), RATE_HZ, "WAV"), 2.5)
    assert seconds == 2 * 3


def test_too_many_channels() -> None:
    sound = np.zeros((100, 9), np.float32)
    assert refusal(write(sound, RATE_HZ, "WAV", "PCM_16")) == "the sound has too many channels"


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.95])
@pytest.mark.parametrize("name", FORMATS)
def test_a_truncated_sound(name: str, kept: float) -> None:
    """Refused, or what soundfile makes of it; never anything else."""
    media = write(speech_like(1.0), RATE_HZ, *FORMATS[name])
    cut = media[: int(len(media) * kept)]
    try:
        samples = heard(cut)
    except RequestError:
        return
    assert 0 <= len(samples) <= RATE_HZ * 1.2


SMALL = {name: write(speech_like(0.2), RATE_HZ, *FORMATS[name]) for name in FORMATS}


@settings(max_examples=100, deadline=None)
@given(strategies.data())
def test_flipped_bytes_do_no_harm(data: strategies.DataObject) -> None:
    media = bytearray(SMALL[data.draw(strategies.sampled_from(sorted(SMALL)))])
    for _ in range(data.draw(strategies.integers(1, 20))):
        media[data.draw(strategies.integers(0, len(media) - 1))] = data.draw(strategies.integers(0, 255))
    with suppress(RequestError):
        heard(bytes(media))
