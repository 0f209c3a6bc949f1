"""Looks: what is known of an item before it is made."""

from __future__ import annotations

from typing import Protocol

from mmplane.core.errors import not_held
from mmplane.core.records import Ask, Recipe
from mmplane.frontend.sources.uuids import Uuids
from mmplane.items.parked import MediaBytes, digest_of
from mmplane.items.store import ItemStore


class Looks(Protocol):
    """Of an item without bytes (`content` is None) its client has sent a name alone, by `uuid`."""

    def check_taken(self, ask: Ask) -> None:
        """Raises RequestError: 422 when the model takes no items of this modality, 400 when no embeddings are taken."""

    async def key(self, ask: Ask, content: MediaBytes | None, *, uuid: str | None, tenant: str) -> bytes:
        """Its content key. Raises RequestError (404) for a name that is not known."""

    async def recipe(self, ask: Ask, key: bytes, content: MediaBytes | None, *, tenant: str) -> Recipe:
        """How to make it. Raises RequestError."""


class StoreLooks(Looks):
    """As a store has it, which keeps what it looked at. A name leads to the bytes that were last sent under it."""

    def __init__(self, store: ItemStore) -> None:
        self._store = store
        self.uuids = Uuids()

    def check_taken(self, ask: Ask) -> None:
        """As `Looks`."""
        self._store.recipes.check_taken(ask)

    async def key(self, ask: Ask, content: MediaBytes | None, *, uuid: str | None, tenant: str) -> bytes:
        """As `Looks`."""
        if content is None:
            assert uuid is not None
            return self._store.recipes.key(ask, self.uuids.digest(uuid, ask.modality, tenant=tenant), tenant=tenant)
        digest = await digest_of(content)
        if uuid is not None:
            self.uuids.remember(uuid, ask.modality, digest, tenant=tenant)
        return self._store.recipes.key(ask, digest, tenant=tenant)

    async def recipe(self, ask: Ask, key: bytes, content: MediaBytes | None, *, tenant: str) -> Recipe:
        """As `Looks`."""
        if content is not None:
            return await self._store.recipes.of(ask, key, content, tenant=tenant)
        if (known := self._store.recipes.known(key)) is None:
            raise not_held()
        return known
