"""The leader's table of the features in every rank's cache (A2): limited, least recently used first. Pure.

Only the leader decides what is kept, evicted and reused, and the plan states it. A rank's cache is a dictionary that
follows the plan, so the caches of two ranks cannot differ.
"""

from __future__ import annotations

from collections import OrderedDict

from mmplane.core.plan import CachePlan, Submit
from mmplane.core.records import Enclosed

ENTRIES_MAX = 1000
CHANGES_MAX = 128
"""The maximum number of keys that one plan keeps, and that it evicts, because a plan is one message."""


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
        """Which items of a request come from the cache. The next plan prepares the request."""
        if not submit.cache:
            return ()
        found = tuple(index for index, item in enumerate(submit.items) if item.content_key in self._entries)
        for index in found:
            self._entries.move_to_end(submit.items[index].content_key)
            self._reuse.append((submit.request_id, index))
        return found

    def keep(self, submit: Submit) -> None:
        """Every rank holds this request's features: keep those that fit. The next plan admits the request."""
        for item in submit.items if submit.cache else ():
            # A rank keeps first and evicts afterwards: what this plan evicts cannot be kept again in it.
            if isinstance(item, Enclosed) and not self._decided(item.content_key):
                self._keep_item(item)

    def take_plan(self) -> CachePlan:
        """The decisions since the last plan."""
        plan = CachePlan(tuple(self._keep), tuple(self._evict), tuple(self._reuse))
        self._keep, self._evict, self._reuse = [], [], []
        return plan

    @property
    def held_bytes(self) -> int:
        """The bytes of all kept features on each rank."""
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
