"""A tokenizer process's side of the sidecar: writes and leases features in threads, before they are sent.

With several nodes this process is itself the producer, and a thread also waits until every node has the features.
Features that cannot be carried take SGLang's own path and are counted by reason. A request is refused only if ranks or
the sidecar are lost after the arena was used, because SGLang's named segments would outlive a server that is about to
end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch

from mmplane.embed.client import Client
from mmplane.embed.errors import Full, Lost, TooLarge
from mmplane.embed.hold import SidecarHold
from mmplane.embed.records import Leased
from mmplane.engines.kit.attach import attach
from mmplane.engines.kit.leases import Leases
from mmplane.engines.kit.producer import Late, Producer, Put
from mmplane.engines.kit.sidecar import Place
from mmplane.engines.sglang import identity, pointer
from mmplane.engines.sglang.made import made_of
from mmplane.engines.sglang.metrics import Metrics

log = logging.getLogger("mmplane")

THREADS = 2
CALL_LIMIT_S = 10.0
"""How long the sidecar may take to answer."""
BYTES_MIN = 2**20
"""Minimum size of arrays beside an item's features that go through the arena."""
REFRESH_S = 1.0
"""Seconds after a request until the metrics are updated again: ranks end their leases after the answer is sent."""


class Refused(Exception):
    """The request cannot be served now, because a rank or the sidecar is lost."""


class Carrier:
    """The carrier of one TokenizerManager."""

    def __init__(self, place: Place, metrics: Metrics) -> None:
        self._attached: Future[Client | Producer] = attach(partial(_attach, place))
        self._metrics, self._tally = metrics, metrics.tally
        self._was_ready = False
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mmplane")
        self._room = asyncio.Semaphore(THREADS)
        self._refresh: asyncio.TimerHandle | None = None
        self._is_stale = False

    async def carry(self, items: list[Any], *, messages: int, trusted: bool) -> None:
        """Put the features of these items into the arena, with a lease for each message. Raises Refused.

        A cancelled request keeps its place until its thread is done, so that no more requests wait than work.
        """
        loop = asyncio.get_running_loop()
        await self._room.acquire()
        work = loop.run_in_executor(self._threads, partial(self._carry, items, messages, trusted=trusted))
        work.add_done_callback(self._worked)
        await asyncio.shield(work)

    def revoke(self, *leased: Leased) -> None:
        """These records will not be sent."""
        self._client().revoke(*leased)

    def lease(self, hold: SidecarHold | Put, messages: int) -> Leases:
        """Lease held items for this many messages. Raises Refused, Full, Late, Lost."""
        leased: list[Leased] = []
        leases = Leases(leased, self.revoke)
        try:
            for _ in range(messages):
                leased.append(hold.lease())  # noqa: PERF401 - after an error the first ones are given back
        except Lost as error:
            if self._was_ready:
                raise Refused("a rank, or the sidecar, has been lost") from error
            raise
        self._was_ready = True
        return leases

    def _carry(self, items: list[Any], messages: int, *, trusted: bool) -> None:
        for item in items:
            try:
                self._carry_item(item, messages, trusted=trusted)
            except Refused:
                raise
            except Exception:
                log.exception("mmplane: an item takes SGLang's own path")
                self._tally.passed_over("error")
        if self._metrics.is_shown:
            self._metrics.show(None)

    def _carry_item(self, item: Any, messages: int, *, trusted: bool) -> None:
        if not identity.is_local(item):
            self._tally.seen()
            self._tally.passed_over("gpu")
            return
        key = identity.name(item, trusted=trusted)

        def carried(array: Any, place: str) -> Any:
            if pointer.is_ours(array) or not _is_worth_it(array, place):
                return array
            self._tally.seen()
            reason = _unfit(array)
            if reason is None:
                try:
                    return self._carry_array(array, partial(key, array, place), messages)
                except (Full, TooLarge):
                    reason = "full"
                except Late:
                    reason = "late"
                except Lost:
                    reason = "not_ready"
                except ValueError:
                    reason = "dtype"
            self._tally.passed_over(reason)
            return array

        pointer.replace(item, carried)

    def _carry_array(self, array: Any, key: Callable[[], bytes], messages: int) -> Any:
        made = made_of(array)
        try:
            client = self._client()
            hold = made.hold if made is not None else client.put(key(), {pointer.ARRAY: array})
        except Lost as error:
            if self._was_ready:
                raise Refused("the sidecar has been lost") from error
            raise
        leases = self.lease(hold, messages)
        self._metrics.carried(_bytes_of(array), hit=hold.hit)
        return pointer.ready(leases, array)

    def _client(self) -> Client | Producer:
        if not self._attached.done() or self._attached.exception() is not None:
            raise Lost("this process is not attached")
        return self._attached.result()

    def _worked(self, work: asyncio.Future[None]) -> None:
        self._room.release()
        if not work.cancelled():
            work.exception()  # the caller may be gone
        self._is_stale = True
        if self._metrics.is_shown and self._refresh is None:
            self._refresh = asyncio.get_running_loop().call_later(REFRESH_S, self._take_figures)

    def _take_figures(self) -> None:
        loop, self._is_stale = asyncio.get_running_loop(), False
        loop.run_in_executor(self._threads, self._figures).add_done_callback(self._show)

    def _figures(self) -> dict[str, Any] | None:
        try:
            return self._client().statistics()
        except Lost:
            return None

    def _show(self, taken: asyncio.Future[dict[str, Any] | None]) -> None:
        """Update the metrics again until nothing is leased or held any more."""
        figures = None if taken.cancelled() or taken.exception() else taken.result()
        self._metrics.show(figures)
        more = self._is_stale or (figures is not None and figures["leases"] + figures["holds"] > 0)
        self._refresh = asyncio.get_running_loop().call_later(REFRESH_S, self._take_figures) if more else None


def _attach(place: Place) -> Client | Producer:
    if not place.board:
        return Client(place.socket, arena_bytes=place.region_bytes, groups=len(place.groups), limit_s=CALL_LIMIT_S)
    producer = Producer.at(place.board)
    producer.begin()
    return producer


def _is_worth_it(array: Any, place: str) -> bool:
    """SGLang creates a named segment for each feature tensor, however small; everything else is in messages."""
    return (identity.is_feature(place) and isinstance(array, torch.Tensor)) or _bytes_of(array) >= BYTES_MIN


def _unfit(array: Any) -> str | None:
    """Return why an array cannot be carried, or None."""
    if isinstance(array, torch.Tensor):
        if not array.is_cpu:
            return "gpu"
        fits = array.layout is torch.strided and not array.is_quantized
    else:
        fits = isinstance(array, np.ndarray) and array.dtype.kind in "biuf" and array.dtype.isnative
    if not fits:
        return "dtype"
    return None if _bytes_of(array) else "empty"


def _bytes_of(array: Any) -> int:
    return int(array.nbytes) if hasattr(array, "nbytes") else 0
