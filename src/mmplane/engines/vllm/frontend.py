"""In an API server: its client of the sidecar, the cache in front of it, and a lease for each message to an engine.

A message that waits for leases is sent by a separate task, which continues if the request is cancelled. As without the
plugin, vLLM therefore never has a request that it has registered and not sent. Aborts wait for the messages before
them.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, TypeVar

from mmplane.embed.client import Client
from mmplane.embed.errors import SidecarError
from mmplane.embed.hold import SidecarHold
from mmplane.embed.records import Leased
from mmplane.engines.kit.tally import Tally
from mmplane.engines.vllm.cache import ArenaCache, reason_of
from mmplane.engines.vllm.held import HeldItem, lent
from mmplane.engines.vllm.metrics import REASONS, Metrics

log = logging.getLogger("vllm.mmplane")
Added = TypeVar("Added")


class Adding:
    """The items that one request has lent to its engine, in one message for each of its samples."""

    def __init__(self) -> None:
        self._lent: list[HeldItem] = []
        self._is_over = False

    def lend(self, items: Iterable[HeldItem]) -> None:
        """These have been sent. Other messages may need them again, until the request is added."""
        self._lent += items
        if self._is_over:
            self.end()

    def end(self) -> None:
        """No further message is sent."""
        self._is_over = True
        for item in self._lent:
            item.drop()
        self._lent.clear()


_adding: ContextVar[Adding | None] = ContextVar("mmplane-adding", default=None)
"""The request that this task adds."""


class Frontend:
    """This process's connection to the sidecar."""

    def __init__(self, client: Callable[[], Client | None]) -> None:
        self.tally = Tally(REASONS, log)
        self._client = client
        self._metrics = Metrics(self.tally, client)
        self.cache = ArenaCache(client, self.tally, self._metrics.refresh)
        self._sending: set[asyncio.Task[Any]] = set()

    async def add(self, added: Awaitable[Added]) -> Added:
        """Await the adding of a request, and drop the features that it has lent.

        vLLM keeps them in local variables until the request ends. If its client leaves, a traceback keeps those, in a
        cycle that only a complete garbage collection frees, which an idle server never has.
        """
        adding = Adding()
        token = _adding.set(adding)
        try:
            return await added
        finally:
            adding.end()
            _adding.reset(token)

    def send(self, send: Callable[[Any], Awaitable[Any]], message: Any, group: int) -> Awaitable[Any]:
        """Send a message to an engine after its leases and all earlier messages that wait for leases."""
        held = self._held(message)
        if held:
            task = asyncio.ensure_future(self._lend_and_send(send, message, held, group, _adding.get()))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
            return asyncio.shield(task)
        return send(message) if not self._sending else self._send_after(send, message)

    def send_now(self, send: Callable[[Any], Any], message: Any, group: int) -> Any:
        """The same without an event loop."""
        leased = self._had({place: _lease(hold, group) for place, hold in self._held(message).items()})
        try:
            return send(_with_records(message, leased))
        except BaseException:
            self._revoke(leased)
            raise

    def _held(self, message: Any) -> dict[int, SidecarHold]:
        """Return the features of the message that need leases.

        If a request is sent in parts, the engine merges each part into the first and drops it. An unused lease could
        then not be distinguished from a used one.
        """
        held = held_of(message)
        if held and message.resumable:
            for _ in held:
                self.tally.passed_over("parts")
            self._metrics.refresh()
            return {}
        return held

    async def _lend_and_send(
        self,
        send: Callable[[Any], Awaitable[Any]],
        message: Any,
        held: dict[int, SidecarHold],
        group: int,
        adding: Adding | None,
    ) -> Any:
        asked = [hold.alease(group) for hold in held.values()]
        leased = self._had(dict(zip(held, await asyncio.gather(*asked, return_exceptions=True), strict=True)))
        try:
            sent = await send(_with_records(message, leased))
        except BaseException:
            self._revoke(leased)
            raise
        if adding is not None:
            adding.lend(message.mm_features[place].data for place in leased)
        return sent

    async def _send_after(self, send: Callable[[Any], Awaitable[Any]], message: Any) -> Any:
        await asyncio.wait(self._sending)
        return await send(message)

    def _had(self, got: dict[int, Any]) -> dict[int, Leased]:
        """Return the leases among these, by place; count the others."""
        leased = {place: one for place, one in got.items() if isinstance(one, Leased)}
        self.tally.carried(len(leased))
        for error in got.values():
            if not isinstance(error, Leased):
                self.tally.passed_over(reason_of(error), error)
        self._metrics.refresh()
        return leased

    def _revoke(self, leased: dict[int, Leased]) -> None:
        client = self._client()
        if client is not None:
            client.revoke(*leased.values())


def held_of(message: Any) -> dict[int, SidecarHold]:
    """Return the holds of a message by the place of their feature, if it is a request that has some."""
    features = getattr(message, "mm_features", None) or ()
    return {place: one.data.hold for place, one in enumerate(features) if isinstance(one.data, HeldItem)}


def _with_records(message: Any, leased: dict[int, Leased]) -> Any:
    """Return the message with these leases; a feature without a lease is sent as it is."""
    if not leased:
        return message
    sent = copy.copy(message)
    sent.mm_features = [
        replace(one, data=lent(one.data, leased[place])) if place in leased else one
        for place, one in enumerate(message.mm_features)
    ]
    return sent


def _lease(hold: SidecarHold, group: int) -> Leased | Exception:
    try:
        return hold.lease(group)
    except (SidecarError, ValueError) as error:
        return error
