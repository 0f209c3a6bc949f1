"""When a role may restart, and how often it has failed in a row. Pure: it is told what happens, and when.

A role is one process, or the group of ranks. Everything that ends between two starts of a role is one incident, however
many processes die. The first restart is immediate; each further one before the role has been ready again waits longer.
"""

from __future__ import annotations

from dataclasses import dataclass

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0


@dataclass
class _Role:
    up: bool = False
    ready: bool = False
    failures: int = 0
    delay_s: float = 0.0
    not_before_s: float = 0.0
    gone_s: float | None = None
    """Since when it has not worked."""


class Restarts:
    """The history of each role since it was last ready."""

    def __init__(self) -> None:
        self._roles: dict[str, _Role] = {}

    def may_start(self, name: str, now_s: float) -> bool:
        """Whether its delay is over."""
        return now_s >= self._of(name).not_before_s

    def started(self, name: str) -> None:
        """Note that it was started."""
        role = self._of(name)
        role.up, role.ready = True, False

    def ready(self, name: str) -> float | None:
        """Note that it works, and forget earlier failures. Returns since when it was gone, None if it was not."""
        role = self._of(name)
        role.ready, role.failures, role.delay_s = True, 0, 0.0
        gone_s, role.gone_s = role.gone_s, None
        return gone_s

    def ended(self, name: str, now_s: float, *, blameless: bool = False) -> int:
        """Note that it ended. Returns how many starts in a row have failed; a `blameless` end is not a failure."""
        role = self._of(name)
        if role.gone_s is None:
            role.gone_s = now_s
        if role.up and not blameless:
            role.failures += not role.ready
            _wait(role, now_s)
        role.up = False
        return role.failures

    def refused(self, name: str, now_s: float) -> None:
        """Note that the system did not let it start. It may start later, and this does not count as its failure."""
        role = self._of(name)
        role.up = False
        _wait(role, now_s)

    def due_s(self, now_s: float) -> float:
        """When the next delay is over; infinity if there is none."""
        return min((role.not_before_s for role in self._roles.values() if role.not_before_s > now_s), default=_NEVER)

    def _of(self, name: str) -> _Role:
        return self._roles.setdefault(name, _Role())


def _wait(role: _Role, now_s: float) -> None:
    role.not_before_s = now_s + role.delay_s
    role.delay_s = min(BACKOFF_MAX_S, role.delay_s * 2 or BACKOFF_FIRST_S)


_NEVER = float("inf")
