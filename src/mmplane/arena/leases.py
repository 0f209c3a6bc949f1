"""The life of a slot, as a table, and the claims that keep its bytes from being used again (invariant 6).

    FREE --reserve--> WRITING --commit--> READY --evict, drain--> FREE
                       |   |                |
                       |   |             discard
                       |   |                v
                       |   +--discard--> QUARANTINED --drain--> FREE
                       +------drain----> FREE

A slot has at most one writer, and only while WRITING or QUARANTINED; readers lease it from READY on. Whoever holds it
keeps its bytes in place: *drain* is legal only when the last holder has gone, and the owner's wish alone (*discard*)
frees nothing. An event that the table does not name is a bug in the owner, so an AssertionError.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from mmplane.arena.errors import NotHeld
from mmplane.core.records import Count, Name, Record, Slot


class SlotState(Enum):
    """Where a use of some bytes stands."""

    FREE = "free"
    WRITING = "writing"
    READY = "ready"
    QUARANTINED = "quarantined"


class Event(Enum):
    """What can happen to it."""

    RESERVE = "reserve"
    COMMIT = "commit"
    DISCARD = "discard"
    EVICT = "evict"
    DRAIN = "drain"


TRANSITIONS: Mapping[SlotState, Mapping[Event, SlotState]] = MappingProxyType(
    {
        SlotState.FREE: {Event.RESERVE: SlotState.WRITING},
        SlotState.WRITING: {
            Event.COMMIT: SlotState.READY,
            Event.DISCARD: SlotState.QUARANTINED,
            Event.DRAIN: SlotState.FREE,  # its writer gave up or died: nobody will ever finish these bytes
        },
        SlotState.READY: {
            Event.DISCARD: SlotState.QUARANTINED,
            Event.EVICT: SlotState.FREE,
            Event.DRAIN: SlotState.FREE,
        },
        SlotState.QUARANTINED: {
            Event.DISCARD: SlotState.QUARANTINED,  # two requests that shared an item may both give it up
            Event.DRAIN: SlotState.FREE,
        },
    }
)
"""Every legal step. Nothing else changes a state."""


class Process(Record, frozen=True):
    """One life of one process, or of a group that lives and dies as one.

    `incarnation` rises with each restart of the same (role, index), so that a claim never passes to a successor.
    """

    role: Name
    index: Count
    incarnation: Count


class Leases:
    """Counted claims on one slot by (process, tag). The same pair may claim it several times."""

    def __init__(self) -> None:
        self._counts: dict[Process, dict[int, int]] = {}
        self.total = 0

    def add(self, process: Process, tag: int) -> None:
        """One more claim."""
        tags = self._counts.setdefault(process, {})
        tags[tag] = tags.get(tag, 0) + 1
        self.total += 1

    def drop(self, process: Process, tag: int) -> None:
        """One claim fewer. Raises NotHeld when there is none."""
        tags = self._counts.get(process, {})
        if tag not in tags:
            raise NotHeld(f"{process} holds no lease with tag {tag}")
        self.total -= 1
        tags[tag] -= 1
        if not tags[tag]:
            del tags[tag]
        if not tags:
            del self._counts[process]

    def holds(self, process: Process) -> bool:
        """Whether this process has a claim."""
        return process in self._counts

    def drop_process(self, process: Process) -> int:
        """End every claim of a dead process; how many there were."""
        dropped = sum(self._counts.pop(process, {}).values())
        self.total -= dropped
        return dropped

    def check_integrity(self) -> None:
        """Assert that the total is the sum and that no empty count is kept."""
        counts = [count for tags in self._counts.values() for count in tags.values()]
        assert all(self._counts.values())
        assert all(count > 0 for count in counts)
        assert self.total == sum(counts)


class Occupant:
    """One use of a run of bytes, from reserve until free: its state, who holds it, and the key it is indexed under."""

    def __init__(self, slot: Slot, reserved_bytes: int, writer: Process, tenant: str = "") -> None:
        self.slot = slot
        self.tenant = tenant
        """On whose behalf."""
        self.reserved_bytes = reserved_bytes
        self.writer: Process | None = writer
        self.leases = Leases()
        self.key: bytes | None = None
        self.state = SlotState.FREE
        self.apply(Event.RESERVE)
        self.counted_as = self.kind
        """What its region last knew of it."""
        self.used_at = 0
        """Counts uses: of two items the one with the higher number was used later."""

    @property
    def is_held(self) -> bool:
        """Whether some process may still read or write these bytes."""
        return self.writer is not None or self.leases.total > 0

    @property
    def kind(self) -> str:
        """Under which figure its bytes are counted. `evictable`: kept only because someone may ask for them again."""
        if self.state is not SlotState.READY:
            return str(self.state.value)
        if self.leases.total:
            return "leased"
        return "unclaimed" if self.key is None else "evictable"

    def apply(self, event: Event) -> None:
        """Take the table's step. AssertionError when there is none, or when it would free bytes that are held."""
        following = TRANSITIONS[self.state].get(event)
        assert following is not None, f"{event} is not legal in {self.state}"
        assert following is not SlotState.FREE or not self.is_held, f"{event} would free {self.slot}, which is held"
        self.state = following

    def check_integrity(self) -> None:
        """Assert what each state promises."""
        self.leases.check_integrity()
        assert self.state is not SlotState.FREE, "a freed occupant is forgotten"
        assert (self.state is SlotState.WRITING) <= (self.writer is not None and not self.leases.total)
        assert (self.state is SlotState.READY) <= (self.writer is None)
        assert (self.state is SlotState.QUARANTINED) <= self.is_held
        assert self.key is None or self.state is SlotState.READY, "only finished bytes are indexed"
