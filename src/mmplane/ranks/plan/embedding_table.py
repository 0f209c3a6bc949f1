"""The leader's table of the embeddings that every rank keeps: limited in bytes, least recently used first. Pure.

A request pins the embeddings that it uses until it ends, so that its prompt can be computed again at any time.
Embeddings that do not fit beside pinned ones are not kept: they only pass through, and a rank drops them once their
last row is in the key-value cache.

Only the leader decides, as with `CacheTable`. If a rank is told to keep embeddings but has none under that key, because
the previous request failed there, it runs its encoder. So this table need not know whether an encoder succeeded.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

from mmplane.core.plan import EmbeddingPlan, Submit

ENTRIES_MAX = 4096
EVICTIONS_MAX = 64
"""The maximum number of evicted keys in one plan, which is one message."""


@dataclass(frozen=True)
class Look:
    """The answer for one request: items that were `found`, and whether all of its rows are kept (`whole`)."""

    found: tuple[int, ...] = ()
    whole: bool = True


class EmbeddingTable:
    """Content keys and the bytes of their embeddings, `row_bytes` for each token: 0 if nothing is encoded."""

    def __init__(self, limit_bytes: int, row_bytes: int) -> None:
        self._limit_bytes = limit_bytes if row_bytes else 0
        self._row_bytes = row_bytes
        self._bytes: dict[bytes, int] = {}
        self._pins: Counter[bytes] = Counter()
        self._idle: OrderedDict[bytes, None] = OrderedDict()
        """Keys without a pin, least recently used first."""
        self._pinned: dict[int, list[bytes]] = {}
        """The keys that each request pins."""
        self._held_bytes = 0
        self._evict: list[bytes] = []
        self._keep: list[tuple[int, int]] = []

    def look(self, submit: Submit) -> Look:
        """Which of a request's embeddings are kept. The next plan prepares the request, which pins them."""
        if not (submit.keep and self._limit_bytes):
            return Look(whole=not (submit.items and self._row_bytes))
        found: list[int] = []
        pinned = self._pinned.setdefault(submit.request_id, [])
        for index, (item, runs) in enumerate(zip(submit.items, submit.placeholders, strict=True)):
            key = item.content_key
            if key in self._bytes:
                found.append(index)
            elif not self._add(key, self._row_bytes * sum(length for _, length in runs)):
                continue
            self._pins[key] += 1
            self._idle.pop(key, None)
            pinned.append(key)
            self._keep.append((submit.request_id, index))
        return Look(tuple(found), len(pinned) == len(submit.items))

    def release(self, request_id: int) -> None:
        """A request has ended. What it pinned stays as long as there is room."""
        for key in self._pinned.pop(request_id, ()):
            self._pins[key] -= 1
            if not self._pins[key]:
                del self._pins[key]
                self._idle[key] = None

    def refuse(self, request_id: int) -> None:
        """A request that was looked up is not prepared in the next plan after all."""
        self._keep = [each for each in self._keep if each[0] != request_id]
        self.release(request_id)

    def take_plan(self) -> EmbeddingPlan:
        """The decisions since the last plan."""
        plan = EmbeddingPlan(tuple(self._evict), tuple(self._keep))
        self._evict, self._keep = [], []
        return plan

    @property
    def held_bytes(self) -> int:
        """The bytes of all kept embeddings on each rank."""
        return self._held_bytes

    @property
    def pinned(self) -> int:
        """The number of keys that requests pin."""
        return len(self._pins)

    def _add(self, key: bytes, length_bytes: int) -> bool:
        """Make room. Returns whether there is some. The cost depends on what is evicted, not on what is kept."""
        victims: list[bytes] = []
        over_bytes = self._held_bytes + length_bytes - self._limit_bytes
        over_entries = len(self._bytes) + 1 - ENTRIES_MAX
        idle = iter(self._idle)
        while over_bytes > 0 or over_entries > 0:
            victim = next(idle, None)
            if victim is None or len(self._evict) + len(victims) == EVICTIONS_MAX:
                return False
            victims.append(victim)
            over_bytes -= self._bytes[victim]
            over_entries -= 1
        for victim in victims:
            del self._idle[victim]
            self._held_bytes -= self._bytes.pop(victim)
        self._evict += victims
        self._bytes[key] = length_bytes
        self._held_bytes += length_bytes
        return True
