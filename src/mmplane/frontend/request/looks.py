"""What is known of an item before it is made: its key and its recipe."""

from __future__ import annotations

from typing import Protocol

from mmplane.core.errors import not_held
from mmplane.core.records import Ask, Recipe
from mmplane.frontend.sources.uuids import Uuids
from mmplane.items.parked import MediaBytes, digest_of
from mmplane.items.store import ItemStore


class Looks(Protocol):
    """Examines items. If `content` is None, the client has sent only a name, `uuid`."""

    def check_taken(self, ask: Ask) -> None:
        """Raise RequestError: 422 if the model accepts no such items, 400 if embeddings are not accepted."""

    async def key(self, ask: Ask, content: MediaBytes | None, *, uuid: str | None, tenant: str) -> bytes:
        """Return its content key. Raises RequestError (404) for an unknown name."""

    async def recipe(self, ask: Ask, key: bytes, content: MediaBytes | None, *, tenant: str) -> Recipe:
        """Return its recipe. Raises RequestError."""


class StoreLooks(Looks):
    """Uses a store, which caches what it has examined. A name stands for the bytes that were last sent under it."""

    def __init__(self, store: ItemStore) -> None:
        self._store = store
        self.uuids = Uuids()

    def check_taken(self, ask: Ask) -> None:
        """See `Looks`."""
        self._store.recipes.check_taken(ask)

    async def key(self, ask: Ask, content: MediaBytes | None, *, uuid: str | None, tenant: str) -> bytes:
        """See `Looks`."""
        if content is None:
            assert uuid is not None
            return self._store.recipes.key(ask, self.uuids.digest(uuid, ask.modality, tenant=tenant), tenant=tenant)
        digest = await digest_of(content)
        if uuid is not None:
            self.uuids.remember(uuid, ask.modality, digest, tenant=tenant)
        return self._store.recipes.key(ask, digest, tenant=tenant)

    async def recipe(self, ask: Ask, key: bytes, content: MediaBytes | None, *, tenant: str) -> Recipe:
        """See `Looks`."""
        if content is not None:
            return await self._store.recipes.of(ask, key, content, tenant=tenant)
        if (known := self._store.recipes.known(key)) is None:
            raise not_held()
        return known
