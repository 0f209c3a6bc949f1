"""The store: media in, an item in the arena out, materialised once however many ask (invariant 1).

    key ──indexed──> lease                                                        a hit
     │  ──in flight─> wait for that one, lease                                    a hit
     └──else──> an idle worker and a slot of its region, both or none ──> worker writes ──> commit, index, lease for
                                                                                            all who wait

The materialisation belongs to the store, not to the request that asked first: a client that goes away takes nobody's
item with it. Leases are given in the same turn of the loop as the commit, so nothing can be evicted in between.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from mmplane.arena.arena import Arena
from mmplane.arena.errors import ArenaError
from mmplane.arena.leases import Process
from mmplane.core.errors import ArenaHasNoRoom, RequestError, bad_media, internal, not_held, unavailable
from mmplane.core.jobs import Examine, Examined, Materialise, Materialised, Measure, Measured
from mmplane.core.keyring import DEFAULT_TENANT
from mmplane.core.keys import content_key
from mmplane.core.records import Ask, Item, Layout, Recipe, Slot
from mmplane.core.stages import Span
from mmplane.features.adjusted import adjusted
from mmplane.features.arithmetic.encodings import dtype_of
from mmplane.features.choice import Processors
from mmplane.items.crew import DecoderDied, JobAnswer, MachineLost, Where, Worker, WorkerLost, WorkerState
from mmplane.items.pace import pace_of
from mmplane.items.parked import MediaBytes, view_of
from mmplane.items.placement import Placement
from mmplane.items.poison import Poison
from mmplane.items.pool import Pool
from mmplane.items.shelf import Shelf
from mmplane.media import embeddings, image
from mmplane.media.materialise import Made, examine
from mmplane.media.profiles import PROFILES
from mmplane.observe.journey import FRONT_END
from mmplane.waiting.budget import Budget
from mmplane.waiting.share import Share

log = logging.getLogger("mmplane")

KeyT = TypeVar("KeyT", bytes, tuple[int, int, str])
ValueT = TypeVar("ValueT", Layout, Recipe)
LAYOUTS_MAX = 4096
KNOWN_MAX = 16384


@dataclass(frozen=True)
class Asset:
    """An item that the asker holds a lease on, and what it took to get it."""

    item: Item
    hit: bool
    spans: tuple[Span, ...]


@dataclass
class Flight:
    """One materialisation under way for a tenant, and the tags of those who wait for it, in order."""

    tenant: str
    patient: bool = True
    """Whether it waits for room in the arena."""
    tags: list[int] = field(default_factory=list)
    done: asyncio.Future[tuple[Item, tuple[Span, ...]]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    task: asyncio.Task[None] | None = None
    begun: bool = False
    """A worker has been taken for it."""


@dataclass
class Examination:
    """A worker's look into a clip or a sound, and how many wait for what it says."""

    task: asyncio.Task[Recipe] | None = None
    askers: int = 0
    begun: bool = False
    """A worker has been taken for it."""


class ItemStore:
    """The producer's side of the arena."""

    def __init__(
        self,
        arena: Arena,
        pool: Pool,
        processors: Processors,
        shelf: Shelf,
        owner: Process,
        budget: Budget,
        *,
        cache: bool,
        workers: bool = True,
        tenants: int = 0,
    ) -> None:
        self._arena = arena
        self._pool = pool
        self._processors = processors
        self._profile = PROFILES[processors.decode_profile]
        self.shelf = shelf
        """Where encoded media and long prompts lie for others to read."""
        self._owner = owner
        self._budget = budget
        self._regions = range(1, arena.regions)  # the workers': further ones are not written by workers
        features_bytes = sum(map(arena.region_bytes, self._regions))
        self._share_bytes = Share(features_bytes, tenants).each_max
        self._workers = workers
        self.cache = cache
        """Whether items stay for later requests."""
        self._flights: dict[bytes, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._layouts: dict[tuple[int, int, str], Layout] = {}
        self._known: dict[bytes, Recipe] = {}
        self._examinations: dict[bytes, Examination] = {}
        self._poison = Poison()
        self.materialisations = 0
        self.retries = 0
        """Items that were made here after a media machine was lost over them."""
        self.bytes_written = 0
        arena.watch(pool.room_came)

    async def layout(self, width: int, height: int, arguments: str = "", *, tenant: str = DEFAULT_TENANT) -> Layout:
        """What an image of this size becomes, before any pixel is decoded. Raises RequestError.

        `arguments` are the processor's for this item, as in `mmplane.core.records.Ask`.
        """
        if self._processors.for_images.layout_is_cheap or not self._workers:
            return adjusted(self._processors, "image", arguments).for_images.layout(width, height)
        measured = (width, height, arguments)
        if measured not in self._layouts:
            _remember(self._layouts, measured, await self._measure(*measured, tenant), LAYOUTS_MAX)
        return self._layouts[measured]

    def check_taken(self, ask: Ask) -> None:
        """Raises RequestError: 422 when the model takes no items of this modality, 400 when no embeddings are taken."""
        if ask.embedded:
            _ = self._processors.for_embeddings
        self._processors.of(ask.modality)

    def known_recipe(self, key: bytes) -> Recipe | None:
        """How to materialise an item that was looked at before, in the arena still or not."""
        return _recall(self._known, key)

    async def recipe(self, ask: Ask, key: bytes, media: MediaBytes, *, tenant: str = DEFAULT_TENANT) -> Recipe:
        """How to materialise this item. Media that has been here before is not looked at again. Raises RequestError.

        An image's header is read here; into clips and sounds a worker looks, once however many ask.
        """
        known = _recall(self._known, key)
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
            self.shelf.keep(media)
            look = self._examinations[key] = Examination()
            look.task = asyncio.create_task(self._examine(ask, key, media, tenant, look))
            look.task.add_done_callback(partial(self._examined, key, look))
        assert look.task is not None
        look.askers += 1
        try:
            return await asyncio.shield(look.task)
        except asyncio.CancelledError:
            if look.askers == 1 and not look.begun:
                self._examinations.pop(key, None)  # as an item without a worker that nobody waits for any more
                look.task.cancel()
            raise
        finally:
            look.askers -= 1

    def key(self, ask: Ask, digest: bytes, *, tenant: str = "") -> bytes:
        """The content key of an item, by the digest of its media.

        Raises RequestError: 422 as `check_taken`, or `unprofiled` for a modality that the decode profile leaves out.
        """
        fingerprint = self._processors.fingerprint_of(ask.modality)
        self._profile.check_modality(ask.modality)
        return content_key(ask, fingerprint=fingerprint, tenant=tenant, media_digest=digest)

    async def acquire(
        self,
        key: bytes,
        media: MediaBytes | None,
        recipe: Recipe | None,
        tag: int,
        *,
        tenant: str = DEFAULT_TENANT,
        probe: bool = False,
        patient: bool = True,
    ) -> Asset:
        """The item of this key, leased to this process under `tag`: give it back with `release`.

        Without `media` only an item that is here, or on its way, will do; then it needs no `recipe`. Raises
        RequestError: 400 when the media cannot be decoded or has ended workers before, 404 when there is none, 413 or
        503 when the arena has no room (who is not `patient` waits for a worker alone), 503 when the worker failed.
        """
        item = self._arena.lookup(key) if self.cache and not probe else None
        if item is not None:
            self._check_share(item, tenant)
            self._arena.lease(item.slot, self._owner, tag)
            return Asset(item, True, ())
        flight = self._flights.get(key)
        if flight is None and media is None:
            raise not_held()
        if flight is None:
            assert media is not None
            assert recipe is not None
            if refusal := self._poison.refusal(key, time.monotonic()):
                raise refusal
            flight = self._flights[key] = Flight(tenant, patient)
            self.shelf.keep(media)
            flight.task = asyncio.create_task(self._fly(key, media, recipe, flight, probe=probe))
            self._tasks.add(flight.task)
            flight.task.add_done_callback(self._tasks.discard)
        flight.tags.append(tag)
        asked_s = time.perf_counter()
        try:
            made, spans = await asyncio.shield(flight.done)
        except asyncio.CancelledError:
            flight.tags.remove(tag)
            if flight.done.done() and flight.done.exception() is None:
                self._arena.release(flight.done.result()[0].slot, self._owner, tag)
            elif not flight.tags and not flight.begun:
                self._call_off(key, flight)
            raise
        hit = flight.tags[0] != tag
        if not hit:
            flight.tags[0] = -1  # the same request may wait twice for one image: only one of them is the miss
            return Asset(made, False, spans)
        return Asset(made, True, (Span("flight", FRONT_END, asked_s, time.perf_counter() - asked_s),))

    def check_together(self, items: Iterable[tuple[bytes, Recipe]]) -> None:
        """Raises ArenaHasNoRoom (413) when these, by key, are more than a tenant may have in use at once."""
        wanted = {key: recipe.layout.length_bytes for key, recipe in items}
        if sum(wanted.values()) > self._share_bytes:
            raise ArenaHasNoRoom(ever=True)

    def _check_share(self, item: Item, tenant: str) -> None:
        """Raises ArenaHasNoRoom (503) when this tenant's items in use would be more than its share."""
        held_bytes = self._arena.held_bytes(tenant, self._regions)
        if held_bytes + item.slot.length_bytes > self._share_bytes and not self._arena.is_held(item.slot):
            raise ArenaHasNoRoom(ever=False)

    def holds(self, key: bytes) -> bool:
        """Whether the item of this key is in the arena or on its way there."""
        return key in self._flights or self._arena.holds(key)

    def room(self) -> int:
        """The largest slot, in bytes, that a worker's region could give now."""
        return max(map(self._arena.room, self._regions), default=0)

    def release(self, item: Item, tag: int) -> None:
        """Give a lease back."""
        self._arena.release(item.slot, self._owner, tag)

    def _call_off(self, key: bytes, flight: Flight) -> None:
        """Nobody waits for it, and it has no worker yet: its media must not outlive the bytes reserved for it."""
        if self._flights.get(key) is flight and flight.task is not None:
            del self._flights[key]
            flight.task.cancel()

    async def _fly(self, key: bytes, media: MediaBytes, recipe: Recipe, flight: Flight, *, probe: bool) -> None:
        try:
            item, spans, written_bytes = await self._materialise(key, media, recipe, flight, self._where(recipe, probe))
            if not probe:
                _remember(self._known, key, recipe, KNOWN_MAX)
                self.materialisations += 1
                self.bytes_written += written_bytes
            self._land(key, item, flight, keep=self.cache and not probe)
            flight.done.set_result((item, spans))
        except RequestError as error:
            if isinstance(error, WorkerLost | DecoderDied):
                error = self._poison.strike(key, time.monotonic()) or error
            if flight.tags:
                flight.done.set_exception(error)
        except Exception:
            log.exception("an item could not be materialised, by an error of ours")
            if flight.tags:
                flight.done.set_exception(internal("the server failed to handle this item"))
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
            self.shelf.let_go(media)

    def _land(self, key: bytes, item: Item, flight: Flight, *, keep: bool) -> None:
        """Publish an item if it is to be kept, and lease it to all who wait, in one turn of the loop."""
        try:
            published = keep and self._arena.publish(key, item).accepted
        except Exception:
            self._arena.discard(item.slot)
            raise
        for tag in flight.tags:
            self._arena.lease(item.slot, self._owner, tag)
        if not published and not flight.tags:
            self._arena.discard(item.slot)

    def _where(self, recipe: Recipe, probe: bool) -> Where:
        """On a media machine, what costs more to make here than its features cost to receive."""
        if probe or recipe.embedded:
            return Where.HERE
        in_bytes = dtype_of(self._processors.encoding) == "uint8"
        return Where.AWAY_FIRST if in_bytes or recipe.modality != "image" else Where.HERE_FIRST

    async def _materialise(
        self, key: bytes, media: MediaBytes, recipe: Recipe, flight: Flight, where: Where
    ) -> tuple[Item, tuple[Span, ...], int]:
        """Made once; when a media machine was lost over it, once more, here."""
        try:
            return await self._make(key, media, recipe, flight, where)
        except MachineLost:
            self.retries += 1
            return await self._make(key, media, recipe, flight, Where.HERE)

    async def _make(
        self, key: bytes, media: MediaBytes, recipe: Recipe, flight: Flight, where: Where
    ) -> tuple[Item, tuple[Span, ...], int]:
        self._budget.check_item(recipe.decoded_bytes)
        asked_s = time.perf_counter()
        place = Placement(
            self._arena,
            recipe.layout.length_bytes,
            regions=self._regions,
            tenant=flight.tenant,
            share_bytes=self._share_bytes,
            patient=flight.patient,
        )
        try:
            worker = await self._pool.idle(place.take, pace=pace_of(recipe), tenant=flight.tenant, where=where)
        except asyncio.CancelledError:
            place.give_back()  # its turn came in the same turn of the loop
            raise
        flight.begun = True
        try:
            async with self._memory_for(worker, recipe), self.shelf.laid_down(media) as laid:
                begun_s = time.perf_counter()
                answer = await self._write(worker, laid, recipe, place.slot)
            ended_s = time.perf_counter()
        except (WorkerLost, asyncio.CancelledError):
            place.leave_to(worker)
            raise
        except BaseException:
            place.give_back()
            raise
        finally:
            self._pool.free(worker)
        item = Item(key, recipe.modality, place.slot, recipe.layout.tensors)
        return item, _spans(answer, worker, (asked_s, begun_s, ended_s)), answer.bytes_written

    @asynccontextmanager
    async def _memory_for(self, worker: Worker, recipe: Recipe) -> AsyncIterator[None]:
        """Room for the decoded item in this machine's memory; a media machine has its own."""
        if worker.away:
            yield
            return
        with await self._budget.reserve_item(recipe.decoded_bytes):
            yield

    async def _write(self, worker: Worker, media: MediaBytes, recipe: Recipe, out: Slot) -> Materialised:
        """Have the worker fill a slot of its region. When that goes wrong, the slot is still to be given up."""
        check_alive(worker)
        tag = out.generation
        source, part = self.shelf.lend(media, worker.process, tag)
        try:
            answer = await self._pool.ask(worker, lambda job_id: Materialise(job_id, recipe, part, out, worker.life))
        except WorkerLost:
            raise
        except MachineLost:
            with suppress(ArenaError):  # its porter may have been reaped
                self._arena.release(source, worker.process, tag)
            raise
        except RequestError:
            self._arena.release(source, worker.process, tag)
            raise
        assert isinstance(answer, Materialised)
        self._arena.release(source, worker.process, tag)
        self._arena.commit(out, worker.process)
        return answer

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
            else:  # the operator wants all of it in this process
                look.begun = True
                recipe = await asyncio.to_thread(examine, self._processors, view_of(media), ask)
        finally:
            self.shelf.let_go(media)
        _remember(self._known, key, recipe, KNOWN_MAX)
        return recipe

    async def _ask_about(self, ask: Ask, key: bytes, media: MediaBytes, tenant: str, look: Examination) -> Recipe:
        worker = await self._pool.idle(lambda idle: idle[0], tenant=tenant)
        look.begun = True
        try:
            async with self.shelf.laid_down(media) as laid:
                answer = await self._look(worker, ask, key, laid)
        finally:
            self._pool.free(worker)
        assert isinstance(answer, Examined)
        return answer.recipe

    async def _look(self, worker: Worker, ask: Ask, key: bytes, media: MediaBytes) -> JobAnswer:
        check_alive(worker)
        source, part = self.shelf.lend(media, worker.process, 0)
        try:
            answer = await self._pool.ask(worker, lambda job_id: Examine(job_id, ask, part))
        except WorkerLost as lost:  # its lease ends when it has been reaped
            raise self._poison.strike(key, time.monotonic()) or lost from None
        except RequestError:
            self._arena.release(source, worker.process, 0)
            raise
        self._arena.release(source, worker.process, 0)
        return answer

    def _examined(self, key: bytes, look: Examination, task: asyncio.Task[Recipe]) -> None:
        if self._examinations.get(key) is look:
            del self._examinations[key]
        if not task.cancelled():
            task.exception()  # all who waited for it may have gone


def check_alive(worker: Worker) -> None:
    """Raises RequestError (503) when a worker that was taken has died since, which is not the item's doing."""
    if worker.away and worker.state is not WorkerState.BUSY:
        raise MachineLost
    if worker.state is not WorkerState.BUSY:
        raise unavailable("the process that was to decode this item ended")


def _spans(answer: Materialised, worker: Worker, times_s: tuple[float, float, float]) -> tuple[Span, ...]:
    """Where a materialisation's time went: until it was `asked`, had `begun` and had `ended`, in seconds."""
    asked_s, begun_s, ended_s = times_s
    made = Made(answer.decode_ms, answer.transform_ms, answer.bytes_written, answer.began_s)
    decode, transform = made.spans(f"{'porter' if worker.away else 'worker'} {worker.process.index}")
    made_s = transform.began_s + transform.seconds
    return (
        Span("slot_wait", FRONT_END, asked_s, begun_s - asked_s),
        Span("handoff", FRONT_END, begun_s, decode.began_s - begun_s),
        decode,
        transform,
        Span("handoff", FRONT_END, made_s, ended_s - made_s),
    )


def _remember(known: dict[KeyT, ValueT], key: KeyT, value: ValueT, count_max: int) -> None:
    """Add an entry; what was used longest ago goes when there are too many."""
    known.pop(key, None)
    while len(known) >= count_max:
        del known[next(iter(known))]
    known[key] = value


def _recall(known: dict[KeyT, ValueT], key: KeyT) -> ValueT | None:
    """An entry, which is now the last one used."""
    value = known.pop(key, None)
    if value is not None:
        known[key] = value
    return value
