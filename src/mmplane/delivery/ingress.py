"""Where the inline bytes of a request go before its delivery begins: to every rank, or to the leader alone. Pure.

In the incident the raw request had reached every rank before the commit broadcast the object that one of them made of
it. Whoever broadcasts needs the bytes on the leader only. The front end sends them to the leader, which passes them on.
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
"""What each delivery can do, its own first. Nothing of `arena` comes inline; `auto` falls back on `eager-compact`."""


def ingress_of(delivery: str, wanted: str) -> str | None:
    """Where a delivery's bytes go: as wanted, or in its own way if it can do no other; None when it has none."""
    possible = INGRESS[delivery]
    return wanted if wanted in possible else next(iter(possible), None)


def check_ingress(delivery: str, wanted: str) -> None:
    """Raise ValueError, with one sentence, when this delivery cannot do what is wanted."""
    possible = INGRESS[delivery]
    if possible and wanted not in (AUTO, *possible):
        raise ValueError(
            f"{wanted} is not possible for {delivery}: it broadcasts nothing, so every rank needs the bytes"
        )
