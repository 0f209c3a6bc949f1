"""Bands on the mel scale, and the window of a spectrum, with the bits of `transformers.audio_utils`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

BEND_HZ, BEND_MEL = 1000.0, 15.0
"""Slaney's scale is linear up to here and logarithmic beyond."""

TOP_HZ = 8000.0


def hann(width: int) -> Doubles:
    """(width,): the periodic Hann window."""
    return np.hanning(width + 1)[:-1]


def filters(frequencies: int, bands: int, rate_hz: int) -> Doubles:
    """(frequencies, bands): triangles from 0 to `TOP_HZ` with equal areas, as in Whisper's feature extractor."""
    top_mel = BEND_MEL + np.log(TOP_HZ / BEND_HZ) * (27.0 / np.log(6.4))
    corners = _hertz(np.linspace(0.0, top_mel, bands + 2))
    slopes = corners[None, :] - np.linspace(0, rate_hz // 2, frequencies)[:, None]
    steps = np.diff(corners)
    triangles = np.maximum(np.zeros(1), np.minimum(-slopes[:, :-2] / steps[:-1], slopes[:, 2:] / steps[1:]))
    triangles *= (2.0 / (corners[2:] - corners[:bands]))[None, :]
    return triangles


def _hertz(mels: Doubles) -> Doubles:
    hertz = 200.0 * mels / 3.0
    bent = mels >= BEND_MEL
    hertz[bent] = BEND_HZ * np.exp(np.log(6.4) / 27.0 * (mels[bent] - BEND_MEL))
    return hertz
