"""Encodings: how features are stored in a slot, and how a rank recovers the processor's output, in NumPy.

- `float32`: the processor's output.
- `bfloat16`, `float16`: cast once, to the nearest, ties to even: the bits of `tensor.to(dtype)` in torch. Half the
  size; costs nothing if the model casts its input anyway.
- `uint8`: the resized pixels themselves. Exact, because an 8-bit pixel has 256 values in each of three channels, so
  the processor's rescaling and normalising is a table of 3 x 256 floats (`ByteForm`). Qwen's second copy of a still
  frame is left out. A quarter of the size, an eighth for the Qwen family.
- `uint8_copies`: the same with all copies, for engines that normalise on the device.

NumPy has no bfloat16: such values are stored as uint16 (`storage_dtype`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

Encoding = Literal["float32", "bfloat16", "float16", "uint8", "uint8_copies"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)

Array = npt.NDArray[Any]


def dtype_of(encoding: Encoding) -> str:
    """The `Tensor.dtype` of features in this encoding."""
    return "uint8" if encoding == "uint8_copies" else encoding


def storage_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype that stores an array whose `Tensor.dtype` is `name`."""
    return np.dtype(np.uint16 if name == "bfloat16" else name)


def cast(values: npt.NDArray[np.float32], encoding: Encoding) -> Array:
    """Encode float32 values as `float32`, `bfloat16` or `float16`. A NaN stays a NaN."""
    if encoding == "float32":
        return values
    if encoding == "float16":
        with np.errstate(over="ignore"):  # values beyond 65,504 become infinity, as in torch
            return values.astype(np.float16)
    if encoding == "bfloat16":
        bits = np.ascontiguousarray(values).view(np.uint32)
        rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
        return np.where(np.isnan(values), np.uint16(0x7FC0), rounded.astype(np.uint16))
    raise ValueError("pixels cannot be recovered from features: only the processor writes uint8")


def widen(stored: Array, encoding: Encoding) -> npt.NDArray[np.float32]:
    """Decode stored `float32`, `bfloat16` or `float16` values to float32; exact."""
    if encoding == "bfloat16":
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return stored.astype(np.float32, copy=False)


@dataclass(frozen=True)
class ByteForm:
    """How uint8 features become float32 ones.

    `table` is (3, 256) float32. The bytes are runs of `run` for each channel in turn, (..., 3, run). The features
    repeat each run `copies` times, (..., 3, copies, run). A run of 0 means the last two sides of each array.
    """

    table: npt.NDArray[np.float32]
    run: int
    copies: int

    def run_of(self, shape: tuple[int, ...]) -> int:
        """The length of the runs in an array of this shape."""
        return self.run or shape[-2] * shape[-1]

    def with_copies(self, stored: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The bytes with all copies, (..., 3, copies, run): the form that engines normalise on the device.

        A view, in which the copies have a stride of 0.
        """
        run = self.run_of(stored.shape)
        runs = stored.reshape(-1, 3, 1, run)
        return np.broadcast_to(runs, (len(runs), 3, self.copies, run))

    def rebuild(self, stored: npt.NDArray[np.uint8], out: npt.NDArray[np.float32]) -> None:
        """Fill the features from the bytes, bit-identical to the processor's. Both are in C order."""
        run = self.run_of(stored.shape)
        pixels = stored.reshape(-1, 3, run)
        features = out.reshape(-1, 3, self.copies, run)
        for channel in range(3):
            features[:, channel] = self.table[channel][pixels[:, channel, None]]
