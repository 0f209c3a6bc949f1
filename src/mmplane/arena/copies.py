"""Copies of slots on other machines: which slots still have to be sent to which mirror. Pure.

    want ──> waiting ──due──> sent ──wrote──> there

A mirror claims a slot from `want` until it has written it (`wrote`), so the owner's bytes stay in place while they are
read. The processes that read a copy have claims of their own. A slot is used again only when all of these have ended,
so a mirror never overwrites bytes that somebody reads, and it gets the bytes of one generation once.

Every waiting copy is a claim on a slot, so the arena limits their number. Of each mirror, at most `SENT_MAX` are sent
and not yet written.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from mmplane.arena.arena import Arena
from mmplane.arena.errors import ArenaError, NotHeld
from mmplane.arena.leases import Process
from mmplane.arena.spans import spans
from mmplane.core.records import Item, Slot

MIRRORS_MAX = 16
SENT_MAX = 8
_COPY = 0
"""The tag of a mirror's claims."""


class TooManyMirrors(ArenaError):
    """The plane has as many mirrors as it may have."""


@dataclass
class _Mirror:
    waiting: OrderedDict[int, Item] = field(default_factory=OrderedDict)  # by generation
    sent: dict[int, Item] = field(default_factory=dict)  # by generation
    there: dict[tuple[int, int], int] = field(default_factory=dict)
    """The last generation that was written at (region, offset)."""


class Copies:
    """All mirrors of one arena, each under the `Process` that claims what it copies."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._mirrors: dict[Process, _Mirror] = {}
        self._lives = 0
        self._copied_bytes = 0

    def add(self) -> Process:
        """A mirror has joined, which has nothing yet. Raises TooManyMirrors."""
        free = set(range(MIRRORS_MAX)) - {mirror.index for mirror in self._mirrors}
        if not free:
            raise TooManyMirrors(f"the plane has the {MIRRORS_MAX} mirrors that it may have")
        self._lives += 1
        mirror = Process("mirror", min(free), self._lives)
        self._mirrors[mirror] = _Mirror()
        return mirror

    def want(self, item: Item) -> None:
        """Send this item, which is leased, to each mirror that lacks it. Raises StaleSlot."""
        slot = item.slot
        for process, mirror in self._mirrors.items():
            known = slot.generation in mirror.waiting or slot.generation in mirror.sent
            if not known and not self.has(process, slot):
                self._arena.lease(slot, process, _COPY)
                mirror.waiting[slot.generation] = item

    def due(self, process: Process) -> list[Item]:
        """The items to send to this mirror now. From now on they count as sent."""
        mirror = self._mirrors[process]
        items = []
        while mirror.waiting and len(mirror.sent) < SENT_MAX:
            generation, item = mirror.waiting.popitem(last=False)
            mirror.sent[generation] = item
            items.append(item)
        return items

    def wrote(self, process: Process, generation: int) -> None:
        """This mirror has written the slot of this generation. Raises NotHeld if it was not sent."""
        mirror = self._mirrors[process]
        item = mirror.sent.pop(generation, None)
        if item is None:
            raise NotHeld(f"{process} was not sent generation {generation}")
        mirror.there[item.slot.region, item.slot.offset_bytes] = generation
        self._copied_bytes += sum(end - begin for begin, end in spans(item.tensors, item.slot.length_bytes))
        self._arena.release(item.slot, process, _COPY)

    def has(self, process: Process, slot: Slot) -> bool:
        """Whether this mirror has this slot's bytes. The slot must be leased."""
        there = self._mirrors[process].there
        return there.get((slot.region, slot.offset_bytes)) == slot.generation

    def lost(self, process: Process) -> None:
        """Nothing is sent to this mirror any more, and it writes nothing any more."""
        del self._mirrors[process]
        self._arena.reaped(process)

    def statistics(self) -> dict[str, int]:
        """The mirrors now, the copies that they lack, and the bytes of all copies that have been written."""
        lacking = sum(len(mirror.waiting) + len(mirror.sent) for mirror in self._mirrors.values())
        return {"mirrors": len(self._mirrors), "copies_lacking": lacking, "copied_bytes": self._copied_bytes}
