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


def sound_part(media: bytes, kind: str = "audio/wav", **fields: Any) -> dict[str, Any]:
    """An `audio_url` part with a data URI."""
    url = f"data:{kind};base64,{base64.b64encode(media).decode()}"
    return {"type": "audio_url", "audio_url": {"url": url}, **fields}
