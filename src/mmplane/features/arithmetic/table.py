"""Rescaling and normalising of 8-bit pixels: three numbers for each channel, or a table of its 256 values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Levels:
    """(float32(byte x scale) - mean[c]) / std[c]: the product in double precision, the rest in single.

    `mean` and `std` are (3,).
    """

    scale: float
    mean: Table
    std: Table

    def table(self) -> Table:
        """(3, 256) float32: the value of each 8-bit value of each channel."""
        values = (np.arange(256) * self.scale).astype(np.float32)
        return np.ascontiguousarray((values - self.mean[:, None]) / self.std[:, None])


def torch_levels(options: Mapping[str, Any]) -> Levels:
    """`TorchvisionBackend.rescale_and_normalize`. Without normalising it multiplies in single precision."""
    factor = options["rescale_factor"]
    if not options["do_normalize"]:
        return Levels(float(np.float32(factor)), *_identity())
    mean, std = _mean_and_std(options)
    if options["do_rescale"]:
        mean, std = mean * np.float32(1.0 / factor), std * np.float32(1.0 / factor)
    return Levels(1.0, mean, std)


def pil_levels(options: Mapping[str, Any]) -> Levels:
    """`PilBackend.rescale`, and then `PilBackend.normalize`."""
    scale = options["rescale_factor"] if options["do_rescale"] else 1.0
    return Levels(scale, *(_mean_and_std(options) if options["do_normalize"] else _identity()))


def _identity() -> tuple[Table, Table]:
    return np.zeros(3, np.float32), np.ones(3, np.float32)


def _mean_and_std(options: Mapping[str, Any]) -> tuple[Table, Table]:
    mean, std = (np.array(options[name], np.float32) for name in ("image_mean", "image_std"))
    return np.array(np.broadcast_to(mean, (3,))), np.array(np.broadcast_to(std, (3,)))
