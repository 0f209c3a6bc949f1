"""Rescaling and normalising of 8-bit pixels as a table of 256 values per channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[np.float32]


def torch_table(options: Mapping[str, Any]) -> Table:
    """(3, 256) float32: `TorchvisionBackend.rescale_and_normalize` of each 8-bit value of each channel."""
    ramp = np.broadcast_to(np.arange(256, dtype=np.float32), (3, 256))
    factor = options["rescale_factor"]
    if not options["do_normalize"]:
        return np.ascontiguousarray(ramp * np.float32(factor))
    mean, std = _mean_and_std(options)
    if options["do_rescale"]:
        mean, std = mean * np.float32(1.0 / factor), std * np.float32(1.0 / factor)
    return np.ascontiguousarray((ramp - mean) / std)


def pil_table(options: Mapping[str, Any]) -> Table:
    """(3, 256) float32: the result of `PilBackend.rescale` and then `PilBackend.normalize` for each 8-bit value."""
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 256))
    values = (ramp.astype(np.float64) * (options["rescale_factor"] if options["do_rescale"] else 1.0)).astype(
        np.float32
    )
    if not options["do_normalize"]:
        return np.ascontiguousarray(values)
    mean, std = _mean_and_std(options)
    return np.ascontiguousarray((values - mean) / std)


def _mean_and_std(options: Mapping[str, Any]) -> tuple[Table, Table]:
    """(3, 1) each."""
    mean, std = (np.array(options[name], np.float32) for name in ("image_mean", "image_std"))
    return np.broadcast_to(mean, (3,))[:, None], np.broadcast_to(std, (3,))[:, None]
