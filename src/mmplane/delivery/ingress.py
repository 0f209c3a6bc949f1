"""Which ranks receive a request's inline bytes before its delivery begins: every rank, or only the leader. Pure.

In the incident the raw request had reached every rank before the commit broadcast the object that one of them had made
from it. A delivery that broadcasts needs the bytes only on the leader. The front end sends them to the leader, which
forwards them.
"""

from __future__ import annotations

from collections.abc import Mapping

EVERY_RANK = "every-rank"
LEADER = "leader"
AUTO = "auto"
CHOICES = (AUTO, EVERY_RANK, LEADER)

INGRESS: Mapping[str, tuple[str, ...]] = {
    "original": (EVERY_RANK,),
    "leader": (EVERY_RANK, LEADER),
    "leader-batch": (LEADER, EVERY_RANK),
    "leader-async": (LEADER, EVERY_RANK),
    "delayed": (LEADER, EVERY_RANK),
    "delayed-async": (LEADER, EVERY_RANK),
    "eager": (EVERY_RANK,),
    "eager-compact": (EVERY_RANK,),
    "arena": (),
    "auto": (EVERY_RANK,),
}
"""What each delivery supports, its default first. `arena` has no inline bytes; `auto` falls back on `eager-compact`."""


def ingress_of(delivery: str, wanted: str) -> str | None:
    """Which ranks get a delivery's bytes: as wanted, or its default if that is impossible; None if it has none."""
    possible = INGRESS[delivery]
    return wanted if wanted in possible else next(iter(possible), None)


def check_ingress(delivery: str, wanted: str) -> None:
    """Raise ValueError, with one sentence, if this delivery does not support `wanted`."""
    possible = INGRESS[delivery]
    if possible and wanted not in (AUTO, *possible):
        raise ValueError(
            f"{wanted} is not possible for {delivery}: it broadcasts nothing, so every rank needs the bytes"
        )
