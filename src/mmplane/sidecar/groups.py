"""Groups of ranks: which process is attached as which rank, in which life of its group. Pure.

The ranks of a group all get each message, and share one life: when one of them is gone, the group is broken and
nothing is leased to it any more. The next rank that attaches starts the group's next *life*. A record contains the
life that it was leased to, so no later rank opens it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from mmplane.arena.leases import Process

GROUPS_MAX = 1024


class Misplaced(Exception):
    """Why a rank cannot attach in the place that it asks for."""


@dataclass
class Life:
    """One life of one group."""

    number: int
    ranks: int
    members: dict[int, Process] = field(default_factory=dict)
    broken: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether every rank is attached and none has gone."""
        return not self.broken and len(self.members) == self.ranks


class Groups:
    """The current life of each group, by the group's number."""

    def __init__(self) -> None:
        self._lives: dict[int, Life] = {}
        self._numbers = count(1)

    def join(self, group: int, rank: int, ranks: int, process: Process) -> Life:
        """Attach this process as `rank` of `ranks` in this group. Raises Misplaced."""
        if rank >= ranks:
            raise Misplaced(f"rank {rank} of {ranks}: ranks count from 0")
        life = self._lives.get(group)
        if life is None or life.broken:
            if life is None and len(self._lives) >= GROUPS_MAX:
                raise Misplaced(f"there are {GROUPS_MAX} groups already")
            life = self._lives[group] = Life(next(self._numbers), ranks)
        if life.ranks != ranks:
            raise Misplaced(f"group {group} has {life.ranks} ranks, not {ranks}")
        if rank in life.members:
            raise Misplaced(f"rank {rank} of group {group} is attached already")
        life.members[rank] = process
        return life

    def left(self, process: Process) -> None:
        """This rank is gone, or ends no more leases: its group is broken."""
        for group, life in list(self._lives.items()):
            if process in life.members.values():
                life.broken = True
                life.members = {rank: member for rank, member in life.members.items() if member != process}
                if not life.members:
                    del self._lives[group]

    def of(self, group: int) -> Life | None:
        """Return the group's current life, if every rank is attached."""
        life = self._lives.get(group)
        return life if life is not None and life.is_complete else None

    def __len__(self) -> int:
        return len(self._lives)
