"""The life of a slot, as a table, and the claims that prevent its bytes from being reused (invariant 6).

    FREE --reserve--> WRITING --commit--> READY --evict, drain--> FREE
                       |   |                |
                       |   |             discard
                       |   |                v
                       |   +--discard--> QUARANTINED --drain--> FREE
                       +------drain----> FREE

A slot has at most one writer, and only while WRITING or QUARANTINED. Readers lease it from READY on. As long as any
process holds it, its bytes stay in place: *drain* is legal only when the last holder is gone, and the owner's decision
alone (*discard*) frees nothing. An event that the table does not contain is a bug in the owner, so an AssertionError.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from mmplane.arena.errors import NotHeld
from mmplane.core.records import Count, Name, Record, Slot


class SlotState(Enum):
    """The state of one use of some bytes."""

    __hash__ = object.__hash__  # Enum's is written in Python

    FREE = "free"
    WRITING = "writing"
    READY = "ready"
    QUARANTINED = "quarantined"


class Event(Enum):
    """The events in the life of a slot."""

    __hash__ = object.__hash__

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
            Event.DRAIN: SlotState.FREE,  # its writer gave up or died, so nobody will ever finish these bytes
        },
        SlotState.READY: {
            Event.DISCARD: SlotState.QUARANTINED,
            Event.EVICT: SlotState.FREE,
            Event.DRAIN: SlotState.FREE,
        },
        SlotState.QUARANTINED: {
            Event.DISCARD: SlotState.QUARANTINED,  # two requests that share an item may both discard it
            Event.DRAIN: SlotState.FREE,
        },
    }
)
"""All legal transitions. Nothing else changes a state."""


class Process(Record, frozen=True):
    """One incarnation of a process, or of a group that lives and dies together.

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
        """Add one claim."""
        tags = self._counts.setdefault(process, {})
        tags[tag] = tags.get(tag, 0) + 1
        self.total += 1

    def drop(self, process: Process, tag: int) -> None:
        """Remove one claim. Raises NotHeld if there is none."""
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
        """End every claim of a dead process. Returns their number."""
        dropped = sum(self._counts.pop(process, {}).values())
        self.total -= dropped
        return dropped

    def check_integrity(self) -> None:
        """Assert that the total is the sum, and that no count is zero."""
        counts = [count for tags in self._counts.values() for count in tags.values()]
        assert all(self._counts.values())
        assert all(count > 0 for count in counts)
        assert self.total == sum(counts)


class Occupant:
    """One use of a run of bytes, from reserve to free: its state, its holders, and its key in the index."""

    def __init__(self, slot: Slot, reserved_bytes: int, writer: Process, tenant: str = "") -> None:
        self.slot = slot
        self.tenant = tenant
        """The tenant that it belongs to."""
        self.reserved_bytes = reserved_bytes
        self.writer: Process | None = writer
        self.leases = Leases()
        self.key: bytes | None = None
        self.state = SlotState.FREE
        self.apply(Event.RESERVE)
        self.counted_as = self.kind
        """The figure under which its region last counted it."""
        self.used_at = 0
        """A counter of uses: of two items, the one with the higher number was used later."""

    @property
    def is_held(self) -> bool:
        """Whether some process may still read or write these bytes."""
        return self.writer is not None or self.leases.total > 0

    @property
    def kind(self) -> str:
        """The figure under which its bytes are counted. `evictable`: only kept for later requests."""
        if self.state is not SlotState.READY:
            return str(self.state.value)
        if self.leases.total:
            return "leased"
        return "unclaimed" if self.key is None else "evictable"

    def apply(self, event: Event) -> None:
        """Apply an event. AssertionError if the table does not allow it, or if it would free bytes that are held."""
        following = TRANSITIONS[self.state].get(event)
        assert following is not None, f"{event} is not legal in {self.state}"
        assert following is not SlotState.FREE or not self.is_held, f"{event} would free {self.slot}, which is held"
        self.state = following

    def check_integrity(self) -> None:
        """Assert the guarantees of each state."""
        self.leases.check_integrity()
        assert self.state is not SlotState.FREE, "a freed occupant is forgotten"
        assert (self.state is SlotState.WRITING) <= (self.writer is not None and not self.leases.total)
        assert (self.state is SlotState.READY) <= (self.writer is None)
        assert (self.state is SlotState.QUARANTINED) <= self.is_held
        assert self.key is None or self.state is SlotState.READY, "only finished bytes are indexed"
