"""How many had their turn lately, so that a wait can be foreseen. Pure."""

from __future__ import annotations

from collections import deque

TURNS_KEPT = 256


class Tempo:
    """When the last turns were; counts no more than `TURNS_KEPT`."""

    def __init__(self) -> None:
        self._turns_s: deque[float] = deque(maxlen=TURNS_KEPT)

    def turn(self, now_s: float) -> None:
        """Somebody's turn has come."""
        self._turns_s.append(now_s)

    def since(self, then_s: float) -> int:
        """How many turns there were since then. `then_s` never falls from call to call: what is older is forgotten."""
        while self._turns_s and self._turns_s[0] < then_s:
            self._turns_s.popleft()
        return len(self._turns_s)
