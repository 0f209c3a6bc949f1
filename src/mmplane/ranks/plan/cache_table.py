"""The leader's table of what every rank's cache of features holds (A2): bounded, least recently used first. Pure.

There is one authority: the leader decides what is kept, forgotten and reused, and says so in the plan. A rank's cache
is a dictionary that does as it is told, so no two can differ.
"""

from __future__ import annotations

from collections import OrderedDict

from mmplane.core.plan import CachePlan, Submit
from mmplane.core.records import Enclosed

ENTRIES_MAX = 1000
CHANGES_MAX = 128
"""Keys that one plan keeps, and that it evicts: a plan is one message."""


class CacheTable:
    """Content keys and the bytes of their features."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._entries: OrderedDict[bytes, int] = OrderedDict()
        self._held_bytes = 0
        self._keep: list[bytes] = []
        self._evict: list[bytes] = []
        self._reuse: list[tuple[int, int]] = []

    def look(self, submit: Submit) -> tuple[int, ...]:
        """Which of a request's items come from the cache: it is being prepared in the next plan."""
        if not submit.cache:
            return ()
        found = tuple(index for index, item in enumerate(submit.items) if item.content_key in self._entries)
        for index in found:
            self._entries.move_to_end(submit.items[index].content_key)
            self._reuse.append((submit.request_id, index))
        return found

    def keep(self, submit: Submit) -> None:
        """Every rank holds this request's features: keep those that fit. It is admitted in the next plan."""
        for item in submit.items if submit.cache else ():
            # A rank keeps first and evicts then: what this plan evicts cannot come back in it.
            if isinstance(item, Enclosed) and not self._decided(item.content_key):
                self._keep_item(item)

    def take_plan(self) -> CachePlan:
        """What was decided since the last plan."""
        plan = CachePlan(tuple(self._keep), tuple(self._evict), tuple(self._reuse))
        self._keep, self._evict, self._reuse = [], [], []
        return plan

    @property
    def held_bytes(self) -> int:
        """Bytes of all features that are kept, on each rank."""
        return self._held_bytes

    def _decided(self, key: bytes) -> bool:
        return key in self._entries or key in self._evict

    def _keep_item(self, item: Enclosed) -> None:
        length_bytes = item.recipe.layout.length_bytes
        victims: list[bytes] = []
        freed_bytes = 0
        for key, key_bytes in self._entries.items():
            full = self._held_bytes + length_bytes - freed_bytes > self._limit_bytes
            if not full and len(self._entries) - len(victims) < ENTRIES_MAX:
                break
            victims.append(key)
            freed_bytes += key_bytes
        fits = self._held_bytes + length_bytes - freed_bytes <= self._limit_bytes
        changes = max(len(self._evict) + len(victims), len(self._keep) + 1)
        if not fits or changes > CHANGES_MAX or any(key in self._keep for key in victims):
            return
        for key in victims:
            self._held_bytes -= self._entries.pop(key)
        self._evict += victims
        self._entries[item.content_key] = length_bytes
        self._held_bytes += length_bytes
        self._keep.append(item.content_key)
