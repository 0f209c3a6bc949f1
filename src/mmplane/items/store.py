"""The store: turns media into an item in the arena, which is materialised once for all requests (invariant 1).

    key ──indexed──> lease                                                        a hit
     │  ──in flight─> wait for that one, lease                                    a hit
     └──else──> an idle worker and a slot of its region, both or none ──> worker writes ──> commit, index, lease for
                                                                                            all who wait

The materialisation belongs to the store, not to the request that asked first, so a client that disconnects does not
affect others. Leases are given in the same turn of the loop as the commit, so nothing can be evicted in between.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial

from mmplane.arena.arena import Arena
from mmplane.arena.errors import ArenaError
from mmplane.arena.leases import Process
from mmplane.core.errors import ArenaHasNoRoom, RequestError, internal, not_held
from mmplane.core.jobs import Materialise, Materialised
from mmplane.core.keyring import DEFAULT_TENANT
from mmplane.core.records import Item, Recipe, Slot
from mmplane.core.stages import Span
from mmplane.features.arithmetic.encodings import dtype_of
from mmplane.features.choice import Processors
from mmplane.items.crew import DecoderDied, MachineLost, Where, Worker, WorkerLost
from mmplane.items.pace import pace_of
from mmplane.items.parked import MediaBytes
from mmplane.items.placement import Placement
from mmplane.items.poison import Poison
from mmplane.items.pool import Pool
from mmplane.items.recipes import Recipes
from mmplane.items.shelf import Shelf
from mmplane.media.materialise import Made
from mmplane.observe.journey import FRONT_END
from mmplane.waiting.budget import Budget
from mmplane.waiting.share import Share

log = logging.getLogger("mmplane")


@dataclass(frozen=True)
class Asset:
    """An item with a lease for the caller, and statistics about getting it."""

    item: Item
    hit: bool
    trace: Callable[[], tuple[Span, ...]] = tuple

    @property
    def spans(self) -> tuple[Span, ...]:
        """How it came here. Not everybody asks."""
        return self.trace()


@dataclass
class Flight:
    """One materialisation in flight for a tenant, and those who wait for it, in order, with holder and tag."""

    tenant: str
    patient: bool = True
    """Whether it waits for room in the arena."""
    waiting: dict[asyncio.Future[Asset], tuple[Process, int]] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    begun: bool = False
    """A worker has been taken for it."""

    def present(self) -> list[tuple[asyncio.Future[Asset], Process, int]]:
        """Those who still wait. One that was cancelled may not have run since."""
        return [(landing, *claim) for landing, claim in self.waiting.items() if not landing.done()]

    def fail(self, error: RequestError) -> None:
        """All of them get this error."""
        for landing, *_ in self.present():
            landing.set_exception(error)


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
        self.shelf = shelf
        """Where encoded media and long prompts are stored for other processes."""
        self._owner = owner
        self._budget = budget
        self._regions = range(1, arena.regions)  # the workers' regions; workers do not write further ones
        features_bytes = sum(map(arena.region_bytes, self._regions))
        self._share_bytes = Share(features_bytes, tenants).each_max
        self.cache = cache
        """Whether items are kept for later requests."""
        self._flights: dict[bytes, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._poison = Poison()
        self.recipes = Recipes(pool, processors, shelf, self._poison, workers=workers)
        """What items are, and how they are made."""
        self.materialisations = 0
        self.retries = 0
        """Items that were made here after a media machine was lost."""
        self.bytes_written = 0
        arena.watch(pool.room_came)

    async def acquire(
        self,
        key: bytes,
        media: MediaBytes | None,
        recipe: Recipe | None,
        tag: int,
        *,
        holder: Process | None = None,
        tenant: str = DEFAULT_TENANT,
        probe: bool = False,
        patient: bool = True,
    ) -> Asset:
        """Return the item of this key, leased to `holder` under `tag`; this process returns it with `release`.

        Without `media`, the item must be in the arena or in the making; then it needs no `recipe`. Raises
        RequestError: 400 if the media cannot be decoded or has ended workers before, 404 if there is no such item, 413
        or 503 if the arena has no room (without `patient` only wait for a worker), 503 if the worker failed.
        """
        holder = holder or self._owner
        item = self._arena.lookup(key) if self.cache and not probe else None
        if item is not None:
            self._check_share(item, tenant)
            self._arena.lease(item.slot, holder, tag)
            return Asset(item, True)
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
        landing: asyncio.Future[Asset] = asyncio.get_running_loop().create_future()
        flight.waiting[landing] = holder, tag
        asked_s = time.perf_counter()
        try:
            asset = await landing
        except asyncio.CancelledError:
            del flight.waiting[landing]
            if not landing.cancelled() and landing.exception() is None:  # it landed in the same turn of the loop
                with suppress(ArenaError):  # a holder that was reaped has no leases
                    self._arena.release(landing.result().item.slot, holder, tag)
            elif not flight.waiting and not flight.begun:
                self._call_off(key, flight)
            raise
        if asset.hit:
            return Asset(asset.item, True, partial(_waited, asked_s, time.perf_counter()))
        return asset

    def check_together(self, items: Iterable[tuple[bytes, Recipe]]) -> None:
        """Raise ArenaHasNoRoom (413) if these items, by key, are more than a tenant may have in use at once."""
        wanted = {key: recipe.layout.length_bytes for key, recipe in items}
        if sum(wanted.values()) > self._share_bytes:
            raise ArenaHasNoRoom(ever=True)

    def _check_share(self, item: Item, tenant: str) -> None:
        """Raise ArenaHasNoRoom (503) if this tenant's items in use would exceed its share."""
        held_bytes = self._arena.held_bytes(tenant, self._regions)
        if held_bytes + item.slot.length_bytes > self._share_bytes and not self._arena.is_held(item.slot):
            raise ArenaHasNoRoom(ever=False)

    def holds(self, key: bytes) -> bool:
        """Whether the item of this key is in the arena or in the making."""
        return key in self._flights or self._arena.holds(key)

    def room(self) -> int:
        """The largest slot, in bytes, that a worker's region could provide now."""
        return max(map(self._arena.room, self._regions), default=0)

    def release(self, item: Item, tag: int) -> None:
        """Return a lease."""
        self._arena.release(item.slot, self._owner, tag)

    def _call_off(self, key: bytes, flight: Flight) -> None:
        """Nobody waits for it, and it has no worker yet: its media must not outlive the bytes reserved for it."""
        if self._flights.get(key) is flight and flight.task is not None:
            del self._flights[key]
            flight.task.cancel()

    async def _fly(self, key: bytes, media: MediaBytes, recipe: Recipe, flight: Flight, *, probe: bool) -> None:
        try:
            made, written_bytes = await self._materialise(key, media, recipe, flight, self._where(recipe, probe))
            if not probe:
                self.recipes.learn(key, recipe)
                self.materialisations += 1
                self.bytes_written += written_bytes
            self._land(key, made, flight, keep=self.cache and not probe)
        except RequestError as error:
            if isinstance(error, WorkerLost | DecoderDied):
                error = self._poison.strike(key, time.monotonic()) or error
            flight.fail(error)
        except Exception:
            log.exception("an item could not be materialised because of an internal error")
            flight.fail(internal("the server failed to handle this item"))
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
            self.shelf.let_go(media)

    def _land(self, key: bytes, made: Asset, flight: Flight, *, keep: bool) -> None:
        """Publish an item if it should be kept, and lease it to all who wait, in one turn of the loop.

        Only one of them has the miss, because one request may wait twice for the same image.
        """
        item = made.item
        try:
            published = keep and self._arena.publish(key, item).accepted
        except Exception:
            self._arena.discard(item.slot)
            raise
        present = flight.present()
        for landing, holder, tag in present:
            self._arena.lease(item.slot, holder, tag)
            landing.set_result(made)
            made = Asset(item, True)
        if not published and not present:
            self._arena.discard(item.slot)

    def _where(self, recipe: Recipe, probe: bool) -> Where:
        """Use a media machine if making it here costs more than receiving its features."""
        if probe or recipe.embedded:
            return Where.HERE
        in_bytes = dtype_of(self._processors.encoding) == "uint8"
        return Where.AWAY_FIRST if in_bytes or recipe.modality != "image" else Where.HERE_FIRST

    async def _materialise(
        self, key: bytes, media: MediaBytes, recipe: Recipe, flight: Flight, where: Where
    ) -> tuple[Asset, int]:
        """Make it once, and count the bytes written; if a media machine is lost over it, once more, here."""
        try:
            return await self._make(key, media, recipe, flight, where)
        except MachineLost:
            self.retries += 1
            return await self._make(key, media, recipe, flight, Where.HERE)

    async def _make(
        self, key: bytes, media: MediaBytes, recipe: Recipe, flight: Flight, where: Where
    ) -> tuple[Asset, int]:
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
        except BaseException:
            place.give_back()  # it was called off or refused after a worker had been chosen
            raise
        flight.begun = True
        try:
            with await self._memory_for(worker, recipe):
                async with self.shelf.laid_down(media) as laid:
                    begun_s = time.perf_counter()
                    answer = await self._write(worker, laid, recipe, place.slot, key)
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
        trace = partial(_spans, answer, worker, (asked_s, begun_s, ended_s))
        return Asset(item, False, trace), answer.bytes_written

    async def _memory_for(self, worker: Worker, recipe: Recipe) -> AbstractContextManager[object]:
        """Reserve memory for the decoded item on this machine; a media machine has its own."""
        return nullcontext() if worker.away else await self._budget.reserve_item(recipe.decoded_bytes)

    async def _write(self, worker: Worker, media: MediaBytes, recipe: Recipe, out: Slot, key: bytes) -> Materialised:
        """Have the worker fill a slot of its region. If that fails, the slot still has to be released."""
        with self.shelf.lent(media, worker, out.generation) as part:
            answer = await self._pool.ask(
                worker, lambda job_id: Materialise(job_id, recipe, part, out, worker.life, key)
            )
        assert isinstance(answer, Materialised)
        self._arena.commit(out, worker.process)
        return answer


def _waited(asked_s: float, ended_s: float) -> tuple[Span, ...]:
    """The span of somebody who has waited for another one's item."""
    return (Span("flight", FRONT_END, asked_s, ended_s - asked_s),)


def _spans(answer: Materialised, worker: Worker, times_s: tuple[float, float, float]) -> tuple[Span, ...]:
    """The spans of a materialisation, from the times when it was `asked`, `begun` and `ended`, in seconds."""
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
