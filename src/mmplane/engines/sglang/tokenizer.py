"""In a tokenizer process: features into slots and their identity, in threads; then a lease for each message.

A request is tokenised once and may be sent several times (n > 1), so the item is held from its tokenisation on, and
each message takes a lease of its own. Whatever cannot be done falls back to SGLang's own way for that feature.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from sglang.srt.environ import envs
from sglang.srt.managers.mm_utils import wrap_shm_features

from mmplane.arena.errors import ArenaError
from mmplane.embed.plane import Plane
from mmplane.embed.records import Leased
from mmplane.engines.sglang import pointer
from mmplane.engines.sglang.building import route
from mmplane.engines.sglang.building.choice import goes_by_arena
from mmplane.engines.sglang.identity import identity, is_covered, slot_key
from mmplane.engines.sglang.launcher import Planes
from mmplane.engines.sglang.metrics import Metrics

log = logging.getLogger("mmplane")

THREADS = 2

REFRESH_S = 1.0
"""How long after a request the figures are taken again: ranks end their leases later than the answer."""


class Producer:
    """This process's plane, and the threads that fill it."""

    def __init__(self, number: int, plane: Plane) -> None:
        self.number = number
        self.plane = plane
        self.inline = 0
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mmplane")
        self._room = asyncio.Semaphore(THREADS)
        self._metrics = Metrics()
        self._refresh: asyncio.TimerHandle | None = None

    async def place(self, items: list[Any]) -> None:
        """Hold the features of these items in the arena, and give the items their identity."""
        loop = asyncio.get_running_loop()
        async with self._room:
            await loop.run_in_executor(self._threads, self._place, items)
        if self._refresh is None:
            self._refresh = loop.call_later(REFRESH_S, self._update)

    def _place(self, items: list[Any]) -> None:
        for item in items:
            try:
                if is_covered(item):
                    self._place_item(item)
            except Exception:
                log.exception("mmplane: an item goes by SGLang's own way")
        self._metrics.update(self.plane.statistics(), self.inline)

    def _update(self) -> None:
        """Show the figures, and again until the last lease has ended."""
        statistics = self.plane.statistics()
        self._metrics.update(statistics, self.inline)
        more = statistics["leases"] > 0
        self._refresh = asyncio.get_running_loop().call_later(REFRESH_S, self._update) if more else None

    def _place_item(self, item: Any) -> None:
        whole = identify(item)
        pointer.replace(item, lambda one, place: self._held(one, slot_key(whole, place)))

    def _held(self, feature: Any, key: bytes) -> Any:
        """A pointer that holds the feature; the feature itself when the arena has no room for it."""
        if not isinstance(feature, torch.Tensor) or not feature.numel() or not self.plane.is_ready():
            return feature
        try:
            return pointer.held(self.plane.put(key, {pointer.ARRAY: feature}), feature)
        except (ArenaError, ValueError):  # full; or a dtype that has no name in a record
            self.inline += 1
            return feature

    def lend(self, item: Any, lent: list[Leased]) -> None:
        """Give an item that is about to be sent leases of its own."""

        def lease(value: Any, _place: str) -> Any:
            if not pointer.is_ours(value):
                return value
            try:
                leased = value.mmplane_hold.lease()
            except ArenaError:
                self.inline += 1
                return value.mmplane_hold.arrays(torch)[pointer.ARRAY].clone()
            lent.append(leased)
            return pointer.lent(value, self.number, leased)

        pointer.replace(item, lease)


_producer: Producer | None = None


def start(original: Callable[..., None], self: Any, *args: Any, **kwargs: Any) -> None:
    """Around `TokenizerManager.__init__`: this is a tokenizer process."""
    global _producer
    original(self, *args, **kwargs)
    route.attach(workers=self.server_args.tokenizer_worker_num)
    planes = Planes.inherited()
    if planes is None:
        return
    number = planes.draw()
    if number is None:
        log.warning("mmplane: off in this tokenizer process: no arena is left; those of dead processes are not reused")
        return
    _producer = Producer(number, Plane(planes.addresses[number]))


async def tokenize(original: Callable[..., Awaitable[Any]], self: Any, *args: Any, **kwargs: Any) -> Any:
    """Around `TokenizerManager._tokenize_one_request`."""
    tokenized = await original(self, *args, **kwargs)
    if tokenized.mm_inputs is not None and await goes_by_arena(tokenized.mm_inputs) and _producer is not None:
        await _producer.place(tokenized.mm_inputs.mm_items)
    return tokenized


def dispatch(original: Callable[..., None], self: Any, obj: Any) -> None:
    """Around `TokenizerManager._dispatch_to_scheduler`: leases for what is sent, ended if it is not."""
    if _producer is None:
        return original(self, obj)
    lent: list[Leased] = []
    try:
        for request in _requests(obj):
            for item in request.mm_inputs.mm_items:
                _producer.lend(item, lent)
            wrap_shm_features(request)
        return original(self, obj)
    except BaseException:
        for leased in lent:
            _producer.plane.revoke(leased)
        raise


def set_pad_value(original: Callable[..., None], self: Any) -> None:
    """Around `MultimodalDataItem.set_pad_value`. On ranks nothing changes: they must not differ among themselves."""
    if _producer is None or self.pad_value is not None or not is_covered(self):
        return original(self)
    try:
        identify(self)
    except TypeError:
        return original(self)
    return None


def identify(item: Any) -> bytes:
    """The item's identity; given to it, unless it has a pad value or somebody's hash already.

    Raises TypeError when it cannot be had.
    """
    whole = item.identity or identity(item)
    if item.pad_value is None:
        if item.hash is not None or envs.SGLANG_MM_SKIP_COMPUTE_HASH.get():
            item.set_pad_value()
        else:
            item.set_identity(whole)
    return whole


def _requests(message: Any) -> Iterator[Any]:
    for request in getattr(message, "batch", None) or (message,):
        if getattr(request, "mm_inputs", None) is not None:
            yield request
