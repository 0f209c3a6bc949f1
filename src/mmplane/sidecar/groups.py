"""Groups of ranks: which process is attached as which rank, in which life of its group, and what it has mapped. Pure.

The ranks of a group all get each message, and share one life: when one of them is gone, the group is broken and
nothing is leased to it any more. The next rank that attaches starts the group's next *life*. A record contains the
life that it was leased to, so no later rank opens it.
"""

from __future__ import annotations

from collections.abc import Collection
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
    mapped: dict[Process, set[int]] = field(default_factory=dict)
    """The regions that each member has mapped."""
    broken: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether every rank is attached and none has gone."""
        return not self.broken and len(self.members) == self.ranks

    def has_mapped(self, regions: Collection[int]) -> bool:
        """Whether every member has mapped all of these regions."""
        return all(self.mapped[member].issuperset(regions) for member in self.members.values())


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
        life.mapped[process] = set()
        return life

    def left(self, process: Process) -> None:
        """This rank is gone, or ends no more leases: its group is broken."""
        for group, life in list(self._lives.items()):
            if process in life.members.values():
                life.broken = True
                life.members = {rank: member for rank, member in life.members.items() if member != process}
                if not life.members:
                    del self._lives[group]

    def of(self, group: int, regions: Collection[int] = ()) -> Life | None:
        """Return the group's current life, if every rank is attached and has mapped these regions."""
        life = self._lives.get(group)
        return life if life is not None and life.is_complete and life.has_mapped(regions) else None

    def __len__(self) -> int:
        return len(self._lives)
