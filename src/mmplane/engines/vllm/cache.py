"""The cache of processed items in an API server: vLLM's interface, backed by the sidecar's arena.

The content of the arena is the cache. For each item, this process only remembers what is not in the arena: small
tensors and the updates of the prompt. So nothing is mirrored, nothing can get out of sync, and all API servers share
the features.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, NamedTuple

from vllm.multimodal.cache import BaseMultiModalProcessorCache
from vllm.multimodal.inputs import MultiModalFieldElem, MultiModalKwargsItem
from vllm.utils.cache import CacheInfo

from mmplane.arena.arrays import dtype_name
from mmplane.core.keys import digest_parts
from mmplane.embed.client import Client
from mmplane.embed.errors import Full, Lost, SidecarError, TooLarge
from mmplane.embed.hold import SidecarHold
from mmplane.engines.kit.tally import Tally
from mmplane.engines.vllm.held import ADDRESS, HeldItem, is_large

KNOWN_MAX = 16384
"""Items that one process remembers: as many of the smallest as fill an arena of 1 GiB."""
_VERSION = b"mmplane-vllm-1"

Updates = Sequence[Any]
"""The changes that vLLM makes to a prompt for one item."""


class Known(NamedTuple):
    """What this process remembers of an item whose features are in the arena."""

    elements: Mapping[str, MultiModalFieldElem]
    updates: Updates
    key: bytes


class ArenaCache(BaseMultiModalProcessorCache):  # type: ignore[misc]
    """`client` returns None until the sidecar is there. `tally` counts items, and why one is not placed.

    `counted` is called after each item, so that the counts are shown even if no item is ever placed.
    A hit is held from `is_cached_item` on until vLLM releases its touches, so that it cannot be evicted in between.
    """

    def __init__(
        self, client: Callable[[], Client | None], tally: Tally, counted: Callable[[], None] = lambda: None
    ) -> None:
        self._client = client
        self._tally = tally
        self._counted = counted
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._touched: dict[str, SidecarHold] = {}
        self._salt = b""
        self._lock = Lock()
        self._stats = self._told = CacheInfo(hits=0, total=0)

    def is_cached_item(self, mm_hash: str) -> bool:
        """Whether it is there; it stays until `release_sender_touches`."""
        with self._lock:
            known = self._known.get(mm_hash)
            if known is None or mm_hash in self._touched:
                return known is not None
        hold = self._found(known)
        with self._lock:
            if hold is None:
                self._known.pop(mm_hash, None)
            else:
                self._touched[mm_hash] = hold
        return hold is not None

    def touch_sender_cache_item(self, mm_hash: str) -> None:
        """Hold it, if it is there."""
        self.is_cached_item(mm_hash)

    def release_sender_touches(self) -> None:
        """The request now has its items, which have their own holds."""
        with self._lock:
            self._touched.clear()

    def get_and_update_item(
        self, mm_item: tuple[MultiModalKwargsItem, Updates] | None, mm_hash: str
    ) -> tuple[MultiModalKwargsItem, Updates]:
        """Return the item with its large tensors in the arena, or unchanged if that is not possible."""
        self._tally.seen()
        try:
            return self._got(mm_item, mm_hash)
        finally:
            self._counted()

    def _got(
        self, mm_item: tuple[MultiModalKwargsItem, Updates] | None, mm_hash: str
    ) -> tuple[MultiModalKwargsItem, Updates]:
        if _is_on_event_loop():  # processed elsewhere; the loop must not wait for the sidecar here
            assert mm_item is not None
            self._tally.passed_over("external")
            return mm_item
        hit = self._hit(mm_hash)
        self._stats = CacheInfo(hits=self._stats.hits + (hit is not None), total=self._stats.total + 1)
        if hit is not None:
            return hit
        assert mm_item is not None, f"{mm_hash} is not cached"
        item, updates = mm_item
        held = self._placed(item, mm_hash)
        if held is None:
            return mm_item
        if updates:  # without them it could not be used again
            self._remember(mm_hash, held, updates)
        return held, updates

    def validate_input_item(self, mm_item: MultiModalKwargsItem, mm_hash: str) -> None:
        """Raise ValueError if an item from outside refers to the arena."""
        if ADDRESS in mm_item:
            raise ValueError(f"an item from outside has no element {ADDRESS!r} (item {mm_hash})")

    def clear_cache(self) -> None:
        """Forget all items. They are not found again, because the same uuid may now stand for another picture."""
        with self._lock:
            if self._known:
                self._salt = os.urandom(16)
            self._known.clear()
            self._touched.clear()
        self._stats = self._told = CacheInfo(hits=0, total=0)

    def make_stats(self, *, delta: bool = False) -> CacheInfo:
        """Hits and lookups, in total or since the last call that asked for the difference."""
        stats = self._stats
        if not delta:
            return stats
        told, self._told = self._told, stats
        return stats - told

    def _hit(self, mm_hash: str) -> tuple[MultiModalKwargsItem, Updates] | None:
        if not self.is_cached_item(mm_hash):
            return None
        with self._lock:
            known, hold = self._known[mm_hash], self._touched[mm_hash]
            self._known.move_to_end(mm_hash)
        return HeldItem(known.elements, hold), known.updates

    def _placed(self, item: MultiModalKwargsItem, mm_hash: str) -> HeldItem | None:
        if isinstance(item, HeldItem):
            return item
        large = {name: element.data for name, element in item.items() if is_large(element.data)}
        if not large:
            self._tally.passed_over("small")
            return None
        client = self._client()
        if client is None:
            self._tally.passed_over("away")
            return None
        key = _key(self._salt, mm_hash, large)
        try:
            hold = client.put(key, large)
        except (SidecarError, ValueError) as error:
            self._tally.passed_over(reason_of(error), error)
            return None
        return HeldItem(item, hold)

    def _remember(self, mm_hash: str, held: HeldItem, updates: Updates) -> None:
        elements = {
            name: MultiModalFieldElem(None, one.field) if is_large(one.data) else one for name, one in held.items()
        }
        with self._lock:
            self._known[mm_hash] = Known(elements, updates, held.hold.key)
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)

    def _found(self, known: Known) -> SidecarHold | None:
        client = self._client()
        try:
            return None if client is None else client.get(known.key)
        except SidecarError:  # then it is processed again
            return None


def reason_of(error: BaseException) -> str:
    """Return the reason for an error."""
    return "full" if isinstance(error, Full | TooLarge) else "away" if isinstance(error, Lost) else "failed"


def _key(salt: bytes, mm_hash: str, large: Mapping[str, Any]) -> bytes:
    """The content's key: vLLM's hash over media, model and options, or the caller's uuid."""
    shapes = [f"{name} {dtype_name(one)} {tuple(one.shape)}".encode() for name, one in sorted(large.items())]
    return digest_parts([_VERSION, salt, mm_hash.encode(), *shapes])


def _is_on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
