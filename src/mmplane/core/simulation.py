"""The settings of a simulated decoder, for measurements: the time for each item, and the size of its features."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmplane.ranges import parsed_size

MS_MAX = 20_000
BYTES_MAX = 10**9
FLOAT_BYTES = 4
REAL = "real"
"""The value of `--decoder` if nothing is simulated."""
_DECODER = re.compile(r"sim:(\d{1,5}):(.{1,20})")


@dataclass(frozen=True)
class Simulation:
    """Milliseconds for each item, and bytes of its features, which are float32. Raises ValueError."""

    ms: int
    features_bytes: int

    def __post_init__(self) -> None:
        if not 1 <= self.ms <= MS_MAX:
            raise ValueError(f"a simulated decoder must take 1 to {MS_MAX} ms per item, not {self.ms}")
        if not FLOAT_BYTES <= self.features_bytes <= BYTES_MAX or self.features_bytes % FLOAT_BYTES:
            raise ValueError(
                f"simulated features must have 4 to {BYTES_MAX} bytes, a multiple of 4, not {self.features_bytes}"
            )

    @property
    def decoder(self) -> str:
        """The value for `--decoder`."""
        return f"sim:{self.ms}:{self.features_bytes}"


def simulation_of(decoder: str) -> Simulation | None:
    """Parse the value of `--decoder`; None for the real one. Raises ValueError."""
    if decoder == REAL:
        return None
    wrong = ValueError("--decoder must be real or sim:MILLISECONDS:BYTES")
    if (found := _DECODER.fullmatch(decoder)) is None:
        raise wrong
    try:
        features_bytes = parsed_size(found[2])
    except ValueError:
        raise wrong from None
    return Simulation(int(found[1]), features_bytes)
