"""The images of `tools/peers/record_features.py`: noise that every version of NumPy makes alike."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

SIDE_MAX = 200
_RANDOM = np.frombuffer(hashlib.shake_128(b"sizes").digest(400), np.uint8).astype(int)
SIZES: list[tuple[int, int]] = [
    (8 + height % (SIDE_MAX - 8), 8 + width % (SIDE_MAX - 8)) for height, width in _RANDOM.reshape(-1, 2).tolist()
]
"""(height, width) of 200 images: none that a model refuses."""
_BYTES = np.frombuffer(hashlib.shake_128(b"noise").digest(3 * SIDE_MAX**2), np.uint8).reshape(SIDE_MAX, SIDE_MAX, 3)


def noise(height: int, width: int) -> npt.NDArray[np.uint8]:
    """(height, width, 3)."""
    return np.ascontiguousarray(_BYTES[:height, :width])
