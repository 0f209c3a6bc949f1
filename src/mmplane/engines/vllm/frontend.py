"""In an API server: its client at the sidecar, the cache in front of it, and a lease for each message to an engine.

A message whose leases are being asked for is sent by a task of its own, which goes on if the request is cancelled: as
without the plugin, vLLM never has a request that it has registered and not sent. Aborts wait for those before them.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from mmplane.embed.client import Client
from mmplane.embed.errors import SidecarError
from mmplane.embed.hold import SidecarHold
from mmplane.embed.records import Leased
from mmplane.engines.kit.tally import Tally
from mmplane.engines.vllm.cache import ArenaCache, reason_of
from mmplane.engines.vllm.held import HeldItem, lent
from mmplane.engines.vllm.metrics import REASONS, Metrics

log = logging.getLogger("vllm.mmplane")


class Frontend:
    """This process's place at the sidecar."""

    def __init__(self, client: Callable[[], Client | None]) -> None:
        self.tally = Tally(REASONS, log)
        self.cache = ArenaCache(client, self.tally)
        self._client = client
        self._metrics = Metrics(self.tally, client)
        self._sending: set[asyncio.Task[Any]] = set()

    def send(self, send: Callable[[Any], Awaitable[Any]], message: Any, group: int) -> Awaitable[Any]:
        """Send an engine a message, after the leases that it needs and after all messages before it that need some."""
        held = self._held(message)
        if held:
            task = asyncio.ensure_future(self._lend_and_send(send, message, held, group))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
            return asyncio.shield(task)
        return send(message) if not self._sending else self._send_after(send, message)

    def send_now(self, send: Callable[[Any], Any], message: Any, group: int) -> Any:
        """The same where no event loop runs."""
        leased = self._had({place: _lease(hold, group) for place, hold in self._held(message).items()})
        try:
            return send(_with_records(message, leased))
        except BaseException:
            self._revoke(leased)
            raise

    def _held(self, message: Any) -> dict[int, SidecarHold]:
        """What the message needs leases for.

        The engine merges each part of a request that is sent in parts into the first and drops it, so a lease that went
        unused could not be told from one that was used.
        """
        held = held_of(message)
        if held and message.resumable:
            for _ in held:
                self.tally.passed_over("parts")
            return {}
        return held

    async def _lend_and_send(
        self, send: Callable[[Any], Awaitable[Any]], message: Any, held: dict[int, SidecarHold], group: int
    ) -> Any:
        asked = [hold.alease(group) for hold in held.values()]
        leased = self._had(dict(zip(held, await asyncio.gather(*asked, return_exceptions=True), strict=True)))
        try:
            return await send(_with_records(message, leased))
        except BaseException:
            self._revoke(leased)
            raise

    async def _send_after(self, send: Callable[[Any], Awaitable[Any]], message: Any) -> Any:
        await asyncio.wait(self._sending)
        return await send(message)

    def _had(self, got: dict[int, Any]) -> dict[int, Leased]:
        """The leases among these, by place; the others are counted."""
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
    """The holds of a message by the place of their feature, if it is a request that has some."""
    features = getattr(message, "mm_features", None) or ()
    return {place: one.data.hold for place, one in enumerate(features) if isinstance(one.data, HeldItem)}


def _with_records(message: Any, leased: dict[int, Leased]) -> Any:
    """The message with these leases; a feature that has none is sent as it is."""
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
