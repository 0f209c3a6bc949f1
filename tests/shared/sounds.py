"""Sounds to send, in every format that is taken; what libsndfile and FFmpeg can write."""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
import soundfile

Sound = npt.NDArray[np.float32]
"""(samples,) or (samples, channels)."""


SPEECH = Path(sys.prefix) / "speech"
REAL = ("Front_Center", "Rear_Left", "Noise")


def real(name: str) -> bytes:
    """Somebody says it: one of Debian's alsa-utils' WAVs, 48 kHz, mono. `make install-dev` puts them there.

    Where Debian's packages cannot be had, who needs one is skipped.
    """
    file = SPEECH / f"{name}.wav"
    if not file.exists():
        pytest.skip("no real speech: tools/get-speech.sh could not fetch Debian's alsa-utils")
    return file.read_bytes()


def speech_like(seconds: float, rate_hz: int = 16_000, channels: int = 1, seed: int = 0) -> Sound:
    """A buzz with formants and pauses, and a little noise: much in it differs from moment to moment."""
    at = np.arange(round(seconds * rate_hz)) / rate_hz
    random = np.random.default_rng(seed)
    pitch = 110 + 40 * np.sin(2 * np.pi * 0.7 * at + seed)
    phase = 2 * np.pi * np.cumsum(pitch) / rate_hz
    voice = sum(np.sin(k * phase) / k * (1 + np.sin(2 * np.pi * (0.3 * k + 0.1 * seed) * at)) for k in range(1, 12))
    voice = voice * (np.sin(2 * np.pi * 1.3 * at) > -0.5) + random.normal(0, 0.02, len(at))
    mono = (0.2 * voice).astype(np.float32)
    if channels == 1:
        return mono
    return np.stack([np.roll(mono, 40 * channel) * (1 - 0.1 * channel) for channel in range(channels)], axis=1)


def write(sound: Sound, rate_hz: int, kind: str, subtype: str | None = None) -> bytes:
    """A file by libsndfile: `WAV`, `FLAC`, `OGG` (subtype `VORBIS` or `OPUS`), `MP3`."""
    file = io.BytesIO()
    soundfile.write(file, sound, rate_hz, format=kind, subtype=subtype)
    return file.getvalue()


def write_in_container(sound: Sound, rate_hz: int, codec: str = "aac", container: str = "mp4") -> bytes:
    """A file by FFmpeg, beside a picture or not."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream: Any = out.add_stream(codec, rate=rate_hz, layout="mono" if sound.ndim == 1 else "stereo")
        planes = sound[None] if sound.ndim == 1 else sound.T
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), format="fltp", layout=stream.layout.name)
        frame.sample_rate = rate_hz
        frame.pts = 0
        for each in (frame, None):
            out.mux(stream.encode(each))
    return file.getvalue()


def mp3_of_a_changing_rate(quiet_s: float, loud_s: float, rate_hz: int = 48_000) -> bytes:
    """A quiet beginning in few bits, and then many: without a header that says how long it is, as streams have none."""
    sound = np.concatenate([np.zeros(round(quiet_s * rate_hz), np.float32), speech_like(loud_s, rate_hz)])
    file = io.BytesIO()
    with av.open(file, "w", format="mp3", options={"write_xing": "0", "id3v2_version": "0"}) as out:
        stream: Any = out.add_stream("libmp3lame", rate=rate_hz, layout="mono")
        stream.options = {"q:a": "0", "flags": "+qscale", "global_quality": "118"}
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, 0
        for each in (frame, None):
            out.mux(stream.encode(each))
    return file.getvalue()


def wave_from_a_pipe(sound: Sound, rate_hz: int, length_bytes: int = 0) -> bytes:
    """A WAV whose writer could not go back: its lengths are none."""
    media = bytearray(write(sound, rate_hz, "WAV", "PCM_16"))
    at = media.index(b"data") + 4
    media[at : at + 4] = media[4:8] = length_bytes.to_bytes(4, "little")
    return bytes(media)


def flac_saying(sound: Sound, rate_hz: int, samples: int = 0) -> bytes:
    """A FLAC whose header says that it has so many samples (0: unknown): 36 bits behind rate, channels and depth."""
    media = bytearray(write(sound, rate_hz, "FLAC"))
    media[21] = media[21] & 0xF0 | samples >> 32
    media[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(media)


def ogg_flac(sound: Sound, rate_hz: int) -> bytes:
    """FLAC in Ogg, which libsndfile does not read."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as out:
        stream: Any = out.add_stream("flac", rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray((sound[None] * 32767).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, 0
        for each in (frame, None):
            out.mux(stream.encode(each))
    return file.getvalue()


def cut_short() -> dict[str, tuple[bytes, float]]:
    """Files that a reader stops in too soon or does not begin, and how many seconds they really last."""
    rate_hz = 48_000
    sound, more = speech_like(1.2, rate_hz, seed=5), speech_like(0.9, rate_hz, seed=6)
    mp3, other_mp3 = write(sound, rate_hz, "MP3"), write(speech_like(0.9, 44_100, 2, seed=7), 44_100, "MP3")
    vorbis, opus = write(sound, rate_hz, "OGG", "VORBIS"), write(more, rate_hz, "OGG", "OPUS")
    other = write(speech_like(0.9, 44_100, 2, seed=8), 44_100, "OGG", "VORBIS")
    return {
        "MP3 of a changing rate": (mp3_of_a_changing_rate(0.6, 1.5), 2.1),
        "MP3s joined": (mp3 + mp3, 2.4),
        "MP3s of two rates joined": (mp3 + other_mp3, 2.1),
        "MP3 behind zeros": (bytes(5_000) + mp3, 1.2),
        "MP3 behind an HTTP head": (b"HTTP/1.1 200 OK\r\nicy-name: none\r\n\r\n" + mp3, 1.2),
        "MP3 with a hole": (mp3[:4_000] + bytes(700) + mp3[4_700:], 1.1),
        "Ogg chained": (vorbis + vorbis, 2.4),
        "Ogg chained, of two rates": (vorbis + other, 2.1),
        "Ogg chained, of two codecs": (opus + vorbis, 2.1),
        "FLAC in Ogg": (ogg_flac(sound, rate_hz), 1.2),
        "WAV of length 0": (wave_from_a_pipe(sound, rate_hz), 1.2),
        "WAV of length 2^32 - 1": (wave_from_a_pipe(sound, rate_hz, 2**32 - 1), 1.2),
        "FLAC without a length": (flac_saying(sound, rate_hz), 1.2),
    }


def sound_part(media: bytes, kind: str = "audio/wav", **fields: Any) -> dict[str, Any]:
    """An `audio_url` part with a data URI."""
    url = f"data:{kind};base64,{base64.b64encode(media).decode()}"
    return {"type": "audio_url", "audio_url": {"url": url}, **fields}
