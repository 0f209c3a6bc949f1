"""Makes items from the media of attached processes. Requests name a digest first, so a repeat needs no bytes.

key known ────────────────────────> the item, or its materialisation in flight, as in `mmplane.items.store`
  └─ else the bytes, sent along or requested (NeedBytes) ──> digest checked ──> recipe ──> item
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Any

import msgspec

from mmplane.core.errors import bad_media, too_large
from mmplane.core.records import Ask, Recipe
from mmplane.items.parked import digest_of
from mmplane.items.pool import Pool
from mmplane.items.store import Asset, ItemStore
from mmplane.sidecar.maker import Maker
from mmplane.sidecar.records import Media, NeedBytes, Wish
from mmplane.sidecar.sealed import mapped
from mmplane.sidecar.session import Session, hold_tag
from mmplane.waiting.budget import Budget

BYTES_SECONDS = 10.0
"""Time limit for a client to send requested bytes."""


class Making(Maker):
    """Forwards producers' requests to the store; encoded media of one item is at most `media_bytes_max` long."""

    def __init__(
        self, store: ItemStore, pool: Pool, budget: Budget, *, fingerprint: bytes, media_bytes_max: int
    ) -> None:
        self.fingerprint = fingerprint
        self._store = store
        self._pool = pool
        self._budget = budget
        self._media_bytes_max = media_bytes_max

    async def describe(self, session: Session, request: int, media: Media, /) -> tuple[bytes, Recipe]:
        """Return key and recipe, from the header alone if that is sufficient. Raises RequestError, Misuse."""
        key = self.key_of(media)
        recipe = self._store.recipes.known(key)
        if recipe is None:
            with await self._budget.admit(media.length_bytes, session.line):
                content = await self._content(session, request, media)
                recipe = await self._store.recipes.of(_ask(media.wish), key, content, tenant=session.line)
        return key, recipe

    async def obtain(self, session: Session, request: int, media: Media, hold: int, /) -> Asset:
        """Return the item, which is made once while it is resident. Raises RequestError, Misuse."""
        key = self.key_of(media)
        acquire = partial(self._store.acquire, key, tag=hold_tag(hold), holder=session.process, tenant=session.line)
        if self._store.holds(key):
            return await acquire(None, None)
        with await self._budget.admit(media.length_bytes, session.line):
            content = await self._content(session, request, media)
            recipe = await self._store.recipes.of(_ask(media.wish), key, content, tenant=session.line)
            return await acquire(content, recipe)

    def statistics(self) -> dict[str, Any]:
        """Statistics of the store, the budget and the pool."""
        return {
            "materialisations": self._store.materialisations,
            "bytes_written": self._store.bytes_written,
            "budget": msgspec.to_builtins(self._budget.statistics()),
            "workers": msgspec.to_builtins(self._pool.statistics()),
        }

    def key_of(self, media: Media) -> bytes:
        """Return the content key. Raises RequestError: 422 for a modality that is not served, 413 for a long file."""
        if media.length_bytes > self._media_bytes_max:
            raise too_large("the media of one item is larger than this sidecar takes")
        return self._store.recipes.key(_ask(media.wish), media.digest, tenant=media.tenant)

    async def _content(self, session: Session, request: int, media: Media) -> memoryview:
        """Return the bytes, in memory that cannot change."""
        content = session.bytes_given.pop(request, None)
        if content is None:
            content = await self._asked(session, request, media)
        if await digest_of(content) != media.digest:
            raise bad_media("the bytes are not those of the digest: the file changed while it was read")
        return content

    async def _asked(self, session: Session, request: int, media: Media) -> memoryview:
        coming = session.bytes_wanted[request] = asyncio.get_running_loop().create_future()
        try:
            session.tell(NeedBytes(request))
            async with asyncio.timeout(BYTES_SECONDS):
                descriptor = await coming
        except TimeoutError:
            raise bad_media("the bytes of an item did not come in time") from None
        finally:
            session.bytes_wanted.pop(request, None)
        try:
            return mapped(descriptor, media.length_bytes)
        finally:
            os.close(descriptor)


def _ask(wish: Wish) -> Ask:
    return Ask(wish.modality, wish.side_max, wish.frames_max, wish.fps_max, wish.embedded, wish.arguments)
