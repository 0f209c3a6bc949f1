"""A simulated decoder for measurements: an item takes a given time and no core, and becomes a given number of bytes.

It waits, as if every decoding process had its own core, so that the structure of a delivery (who waits for whom, what
is done once and what by everybody) can be measured on any machine. Everything else is real: the media is a picture
that is parsed and decoded, and the features are memory that is written, sent and read.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from mmplane.core.keys import digest_parts
from mmplane.core.records import Layout
from mmplane.core.simulation import FLOAT_BYTES, Simulation
from mmplane.features.contract.arrays import Arrays, pack
from mmplane.features.contract.image import FEATURES, ImageProcessor, Pixels

BLOCK_BYTES = 1 << 20
TOKENS = 64
"""Tokens of a prompt for each item."""


class SimulatedProcessor(ImageProcessor):
    """Takes any picture. `placeholder_id` is the model's."""

    layout_is_cheap = True

    def __init__(self, simulation: Simulation, placeholder_id: int) -> None:
        self._simulation = simulation
        self._placeholder_id = placeholder_id

    @property
    def fingerprint(self) -> bytes:
        """Digest of the simulation."""
        return digest_parts([self._simulation.decoder.encode()])

    @property
    def placeholder_id(self) -> int:
        """The model's own."""
        return self._placeholder_id

    def warm(self) -> None:
        """Nothing to warm."""

    def layout(self, width: int, height: int) -> Layout:  # noqa: ARG002 - the same for every size
        """(bytes / 4,) float32, and `TOKENS` tokens."""
        shape = (self._simulation.features_bytes // FLOAT_BYTES,)
        return pack([(FEATURES, "float32", shape)], ((self._placeholder_id, TOKENS),))

    def write(self, pixels: Pixels, out: Arrays) -> int:
        """Fill the features, and wait for the rest of the time."""
        due_s = time.perf_counter() + self._simulation.ms / 1000
        features = out[FEATURES].view(np.uint8)
        fill(pixels, features)
        time.sleep(max(0.0, due_s - time.perf_counter()))
        return features.nbytes


def fill(pixels: Pixels, features: npt.NDArray[np.uint8]) -> None:
    """Bytes that depend on every pixel and do not compress, written at the speed of memory: one block repeated."""
    block = np.frombuffer(blake3(pixels.tobytes()).digest(BLOCK_BYTES), np.uint8)
    for start in range(0, len(features), BLOCK_BYTES):
        rest = features[start : start + BLOCK_BYTES]
        rest[:] = block[: len(rest)]
