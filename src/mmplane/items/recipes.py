"""Recipes: what an item is and how to make it, determined once, before anything of it is decoded.

An image's header is read in this process. Clips and sounds are examined by a worker, once for all requests.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TypeVar

from mmplane.core.errors import bad_media
from mmplane.core.jobs import Examine, Examined, Measure, Measured
from mmplane.core.keyring import DEFAULT_TENANT
from mmplane.core.keys import content_key
from mmplane.core.records import Ask, Layout, Recipe
from mmplane.features.adjusted import adjusted
from mmplane.features.choice import Processors
from mmplane.items.crew import DecoderDied, MachineLost, Where, WorkerLost, most_idle
from mmplane.items.parked import MediaBytes, view_of
from mmplane.items.poison import Poison
from mmplane.items.pool import Pool
from mmplane.items.shelf import Shelf
from mmplane.media import embeddings, image
from mmplane.media.materialise import examine
from mmplane.media.profiles import PROFILES

KeyT = TypeVar("KeyT", bytes, tuple[int, int, str])
ValueT = TypeVar("ValueT", Layout, Recipe)
LAYOUTS_MAX = 4096
KNOWN_MAX = 16384


@dataclass
class Examination:
    """A worker's examination of a clip or a sound, and the number of requests that wait for it."""

    task: asyncio.Task[Recipe] | None = None
    askers: int = 0
    begun: bool = False
    """A worker has been taken for it."""


class Recipes:
    """Recipes of all items of a server, a sidecar or a media machine. A bounded number is cached."""

    def __init__(
        self, pool: Pool, processors: Processors, shelf: Shelf, poison: Poison, *, workers: bool = True
    ) -> None:
        self._pool = pool
        self._processors = processors
        self._profile = PROFILES[processors.decode_profile]
        self._shelf = shelf
        self._poison = poison
        self._workers = workers
        self._layouts: dict[tuple[int, int, str], Layout] = {}
        self._known: dict[bytes, Recipe] = {}
        self._examinations: dict[bytes, Examination] = {}
        self._tags = count(-1, -1)
        """Number for workers' examinations; it is not the generation of any slot."""
        self.retries = 0
        """Examinations that were repeated here after a media machine was lost."""

    async def layout(self, width: int, height: int, arguments: str = "", *, tenant: str = DEFAULT_TENANT) -> Layout:
        """Return what an image of this size becomes, before any pixel is decoded. Raises RequestError.

        `arguments` are the processor's arguments for this item, as in `mmplane.core.records.Ask`.
        """
        if self._processors.for_images.layout_is_cheap or not self._workers:
            return adjusted(self._processors, "image", arguments).for_images.layout(width, height)
        measured = (width, height, arguments)
        if measured not in self._layouts:
            _remember(self._layouts, measured, await self._measure(*measured, tenant), LAYOUTS_MAX)
        return self._layouts[measured]

    def check_taken(self, ask: Ask) -> None:
        """Raise RequestError: 422 if the model accepts no such items, 400 if embeddings are not accepted."""
        if ask.embedded:
            _ = self._processors.for_embeddings
        self._processors.of(ask.modality)

    def known(self, key: bytes) -> Recipe | None:
        """Return the recipe of an item that was examined before, whether it is still in the arena or not."""
        return _recall(self._known, key)

    def learn(self, key: bytes, recipe: Recipe) -> None:
        """Record that this item was made with this recipe."""
        _remember(self._known, key, recipe, KNOWN_MAX)

    async def of(self, ask: Ask, key: bytes, media: MediaBytes, *, tenant: str = DEFAULT_TENANT) -> Recipe:
        """Return how to materialise this item; known media is not examined again. Raises RequestError.

        An image's header is read here. Clips and sounds are examined by a worker, once for all requests.
        """
        known = self.known(key)
        if known is not None:
            return known
        if len(media) == 0:
            raise bad_media("the file is empty")
        if ask.embedded:
            return embeddings.examine(self._processors.for_embeddings, view_of(media))
        if ask.modality == "image":
            header = image.probe(view_of(media), profile=self._profile)
            size = image.shrunk(header.width, header.height, ask.side_max)
            layout = await self.layout(*size, ask.arguments, tenant=tenant)
            decoded_bytes = image.decoded_bytes(header, profile=self._profile)
            return Recipe("image", layout, side_max=ask.side_max, decoded_bytes=decoded_bytes, arguments=ask.arguments)
        if refusal := self._poison.refusal(key, time.monotonic()):
            raise refusal
        look = self._examinations.get(key)
        if look is None:
            self._shelf.keep(media)
            look = self._examinations[key] = Examination()
            look.task = asyncio.create_task(self._examine(ask, key, media, tenant, look))
            look.task.add_done_callback(partial(self._examined, key, look))
        assert look.task is not None
        look.askers += 1
        try:
            return await asyncio.shield(look.task)
        except asyncio.CancelledError:
            if look.askers == 1 and not look.begun:
                self._examinations.pop(key, None)  # like an item without a worker for which nobody waits any more
                look.task.cancel()
            raise
        finally:
            look.askers -= 1

    def key(self, ask: Ask, digest: bytes, *, tenant: str = "") -> bytes:
        """Compute the content key of an item from the digest of its media.

        Raises RequestError: 422 as in `check_taken`, or `unprofiled` for a modality that the decode profile does not
        cover.
        """
        fingerprint = self._processors.fingerprint_of(ask.modality)
        self._profile.check_modality(ask.modality)
        return content_key(ask, fingerprint=fingerprint, tenant=tenant, media_digest=digest)

    async def _measure(self, width: int, height: int, arguments: str, tenant: str) -> Layout:
        worker = await self._pool.idle(lambda idle: idle[0], tenant=tenant)
        try:
            answer = await self._pool.ask(worker, lambda job_id: Measure(job_id, width, height, arguments))
        finally:
            self._pool.free(worker)
        assert isinstance(answer, Measured)
        return answer.layout

    async def _examine(self, ask: Ask, key: bytes, media: MediaBytes, tenant: str, look: Examination) -> Recipe:
        try:
            if self._workers:
                recipe = await self._ask_about(ask, key, media, tenant, look)
            else:  # the operator wants everything to be done in this process
                look.begun = True
                recipe = await asyncio.to_thread(examine, self._processors, view_of(media), ask)
        finally:
            self._shelf.let_go(media)
        self.learn(key, recipe)
        return recipe

    async def _ask_about(self, ask: Ask, key: bytes, media: MediaBytes, tenant: str, look: Examination) -> Recipe:
        """Use a media machine, if there is one; if it is lost, try once more here."""
        try:
            return await self._ask_one(ask, key, media, tenant, look, Where.AWAY_FIRST)
        except MachineLost:
            self.retries += 1
            return await self._ask_one(ask, key, media, tenant, look, Where.HERE)

    async def _ask_one(
        self, ask: Ask, key: bytes, media: MediaBytes, tenant: str, look: Examination, where: Where
    ) -> Recipe:
        worker = await self._pool.idle(most_idle, tenant=tenant, where=where)
        look.begun = True
        try:
            async with self._shelf.laid_down(media) as laid:
                with self._shelf.lent(laid, worker, next(self._tags)) as part:
                    answer = await self._pool.ask(worker, lambda job_id: Examine(job_id, ask, part, worker.life, key))
        except (WorkerLost, DecoderDied) as lost:
            raise self._poison.strike(key, time.monotonic()) or lost from None
        finally:
            self._pool.free(worker)
        assert isinstance(answer, Examined)
        return answer.recipe

    def _examined(self, key: bytes, look: Examination, task: asyncio.Task[Recipe]) -> None:
        if self._examinations.get(key) is look:
            del self._examinations[key]
        if not task.cancelled():
            task.exception()  # all requests that waited for it may be gone


def _remember(known: dict[KeyT, ValueT], key: KeyT, value: ValueT, count_max: int) -> None:
    """Add an entry; if there are too many, drop the least recently used one."""
    known.pop(key, None)
    while len(known) >= count_max:
        del known[next(iter(known))]
    known[key] = value


def _recall(known: dict[KeyT, ValueT], key: KeyT) -> ValueT | None:
    """Return an entry and mark it as used."""
    value = known.pop(key, None)
    if value is not None:
        known[key] = value
    return value
