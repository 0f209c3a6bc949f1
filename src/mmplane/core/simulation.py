"""What a simulated decoder does, for measurements: how long an item takes, and how large its features are."""

from __future__ import annotations

import re
from dataclasses import dataclass

MS_MAX = 20_000
BYTES_MAX = 10**9
FLOAT_BYTES = 4
REAL = "real"
"""What `--decoder` says where nothing is simulated."""
_DECODER = re.compile(r"sim:(\d{1,5}):(\d{1,10})")


@dataclass(frozen=True)
class Simulation:
    """Milliseconds for each item, and bytes of its features, which are float32. Raises ValueError."""

    ms: int
    features_bytes: int

    def __post_init__(self) -> None:
        if not 1 <= self.ms <= MS_MAX:
            raise ValueError(f"a simulated decoder takes 1 to {MS_MAX} ms for an item, not {self.ms}")
        if not FLOAT_BYTES <= self.features_bytes <= BYTES_MAX or self.features_bytes % FLOAT_BYTES:
            raise ValueError(f"simulated features have 4 to {BYTES_MAX} bytes, by fours, not {self.features_bytes}")

    @property
    def decoder(self) -> str:
        """As `--decoder` takes it."""
        return f"sim:{self.ms}:{self.features_bytes}"


def simulation_of(decoder: str) -> Simulation | None:
    """What `--decoder` says; None for the real one. Raises ValueError."""
    if decoder == REAL:
        return None
    if (found := _DECODER.fullmatch(decoder)) is None:
        raise ValueError("--decoder must be real or sim:MILLISECONDS:BYTES")
    ms, features_bytes = map(int, found.groups())
    return Simulation(ms, features_bytes)
