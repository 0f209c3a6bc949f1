"""The rank group as seen by the front end: requests go to the leader, tokens come back.

Handing over a request leases its slots to the ranks. The leases end when the leader reports that every rank has
answered (`Admitted` or `Failed`), or when the supervisor reports that the group is dead.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.core.errors import RequestError, overloaded, unavailable
from mmplane.core.plan import (
    Abort,
    Admitted,
    Attached,
    Failed,
    FromLeader,
    LoopReport,
    Progress,
    Submit,
    Token,
    Tokens,
    Work,
)
from mmplane.core.records import Item, Slot
from mmplane.frontend.send.mirrored import Mirrored
from mmplane.frontend.send.parcels import Buffer, ParcelSender
from mmplane.wire.link import Link
from mmplane.wire.mailbox import Mailbox


@dataclass
class Generation:
    """One request at the ranks: an async iterator over its tokens, which raises the error of a failed request."""

    request_id: int
    tokens_max: int
    slots: list[Slot]
    open: set[int]
    """Samples that still produce tokens."""
    free: Callable[[], None] = lambda: None
    """Releases the bytes of the inline parcel, here and on the ranks."""
    digests: tuple[tuple[bytes, ...], ...] = ()
    reused: tuple[int, ...] = ()
    """Items that were in the ranks' caches."""
    embedded: tuple[int, ...] = ()
    """Items whose embeddings the ranks had cached."""
    cached_tokens: int = 0
    """Tokens of the prompt that the ranks had computed for an earlier request."""
    work: tuple[Work, ...] = ()
    """What each rank did for the features, once all ranks hold them or have failed."""
    admitted: bool = False
    aborted: bool = False
    heard: Callable[[tuple[Work, ...], float | None], None] = lambda _works, _admitted_s: None
    """Called when all ranks have answered, with their spans, and the time of admission if the request was admitted."""
    _events: asyncio.Queue[Token | RequestError] = field(default_factory=asyncio.Queue)

    def push(self, event: Token | RequestError) -> None:
        """Add a token, or an error that ends the stream. The ranks bound the number: `tokens_max` for each sample."""
        if not self.aborted:
            self._events.put_nowait(event)

    async def __aiter__(self) -> AsyncIterator[Token]:
        while self.open:
            event = await self._events.get()
            if isinstance(event, RequestError):
                raise event
            if event.sample not in self.open:
                continue
            if event.reason is not None:
                self.open.discard(event.sample)
            yield event


class Paid:
    """Bytes reserved until both the stream and the ranks are done with them; each may report more than once."""

    def __init__(self, free: Callable[[], None], *, streams: bool) -> None:
        self._free = free
        self._claims = {"ranks", "stream"} if streams else {"ranks"}

    def by_ranks(self) -> None:
        """The ranks hold the request, or have dropped it."""
        self._end("ranks")

    def by_stream(self) -> None:
        """The parcel has been sent."""
        self._end("stream")

    def _end(self, claim: str) -> None:
        self._claims.discard(claim)
        if not self._claims:
            self._free()


class GroupStatistics(msgspec.Struct, frozen=True):
    """The last known state of the ranks."""

    incarnation: int
    attached: bool
    in_flight: int
    requests: int
    progress: Progress | None
    loops: tuple[LoopReport, ...] = ()
    ended: int = 0


class Group:
    """Sends requests to the leader and distributes its answers to the requests."""

    def __init__(
        self, arena: Arena, owner: Process, epoch: int, *, in_flight_max: int, ranks_here: int | None = None
    ) -> None:
        self._arena = arena
        self._owner = owner
        self._epoch = epoch
        self._in_flight_max = in_flight_max
        self._ranks_here = ranks_here
        self.mirrored = Mirrored(arena)
        self._mailbox: Mailbox | None = None
        self._parcels: ParcelSender | None = None
        self._process = Process("ranks", 0, 0)
        self._attached = asyncio.Event()
        self._generations: dict[int, Generation] = {}
        self._request_ids = itertools.count((epoch << 32) + 1)
        self._requests = 0
        self._progress: Progress | None = None
        self._loops: dict[int, LoopReport] = {}
        self._ended = 0
        self.progressed_s = float("-inf")
        """When the ranks last made progress with a request (monotonic clock)."""
        self.dtype = "float32"
        """The dtype in which the ranks' model computes."""
        self.kv_tokens_max = 0
        """Number of positions in the cache memory of one rank."""

    def next_request_id(self) -> int:
        """A number that no request of this server has had."""
        return next(self._request_ids)

    def connect(self, incarnation: int, dtype: str, descriptor: int, stream: int, *mirrors: int) -> None:
        """A group has started; it accepts requests once its leader has acknowledged this front end's epoch."""
        link: Link[FromLeader] = Link(descriptor, FromLeader)
        self._parcels = ParcelSender(stream)
        self._process = Process("ranks", 0, incarnation)
        self.mirrored.connect(mirrors)
        self.dtype = dtype
        self._mailbox = Mailbox(link, receive=lambda record, _: self._receive(record), lost=self._attached.clear)

    def gone(self, incarnation: int) -> None:
        """The whole group is dead: requests in flight fail, and its leases end."""
        self._ended += 1
        if self._process.incarnation == incarnation and self._mailbox is not None:
            self._mailbox.close()
            self._mailbox = None
            self.mirrored.gone()
            if self._parcels is not None:
                self._parcels.close()
            self._attached.clear()
            self._progress = None
            self._loops.clear()
            for generation in self._generations.values():
                generation.free()
                generation.push(unavailable("the ranks that were serving this request ended"))
            self._generations.clear()
        self._arena.reaped(Process("ranks", 0, incarnation))

    @property
    def ready(self) -> bool:
        """Whether requests can be handed over now."""
        return self._attached.is_set()

    async def wait_ready(self) -> None:
        """Wait until requests can be handed over."""
        await self._attached.wait()

    def check_room(self) -> None:
        """Raise RequestError (503) if a request would be refused now, before work is done for it."""
        if not self._attached.is_set():
            raise unavailable("the ranks are not ready")
        if len(self._generations) >= self._in_flight_max:
            raise overloaded("too many requests are in flight")

    def reader(self) -> Process:
        """The holder of the ranks' leases."""
        return self._process

    def submit(
        self, submit: Submit, parcel: Sequence[Buffer] = (), *, free: Callable[[], None] = lambda: None
    ) -> Generation:
        """Hand over a request with its inline bytes, and lease its slots to the ranks. Raises RequestError (503).

        `free` is called once the parcel has left this process and the ranks no longer need it, which may be after the
        client that waits for the answer has gone.
        """
        self.check_room()
        assert self._mailbox is not None
        slots = [item.slot for item in submit.items if isinstance(item, Item)]
        for slot in slots:
            self._arena.lease(slot, self._process, submit.request_id)
        if submit.prompt_slot is not None:
            slots.append(submit.prompt_slot)  # already leased when it was stored
        sampling = submit.sampling
        paid = Paid(free, streams=bool(parcel))
        generation = Generation(
            submit.request_id, sampling.tokens_max, slots, set(range(sampling.samples)), paid.by_ranks
        )
        self._generations[submit.request_id] = generation
        self._requests += 1
        if not self._mailbox.post(submit):
            # The leader is dead or stuck, and never hears of these slots.
            del self._generations[submit.request_id]
            self._release(generation)
            raise unavailable("the ranks do not accept requests")
        if parcel:
            # Once the leader knows the request, its parcel must follow, even if the client leaves.
            assert self._parcels is not None
            self._parcels.send(submit.request_id, parcel, relayed=submit.relayed, sent=paid.by_stream)
        return generation

    def stop(self, generation: Generation, sample: int) -> None:
        """End this sample, because a stop text was found."""
        generation.open.discard(sample)
        if self._mailbox is not None:
            self._mailbox.post(Abort(generation.request_id, sample))

    def abort(self, generation: Generation) -> None:
        """Nobody waits for this request any more. Idempotent."""
        if generation.aborted or self._generations.get(generation.request_id) is not generation:
            return
        generation.aborted = True
        if self._mailbox is not None:
            self._mailbox.post(Abort(generation.request_id))
        if generation.admitted:
            self._generations.pop(generation.request_id)  # otherwise its leases end with the leader's answer

    def finished(self, generation: Generation) -> None:
        """The request's last token has been delivered."""
        self._generations.pop(generation.request_id, None)

    def statistics(self) -> GroupStatistics:
        """The current state of the group."""
        return GroupStatistics(
            self._process.incarnation,
            self.ready,
            len(self._generations),
            self._requests,
            self._progress,
            tuple(report for _, report in sorted(self._loops.items())),
            self._ended,
        )

    @property
    def in_flight(self) -> int:
        """Number of requests that the ranks have."""
        return len(self._generations)

    def _receive(self, record: FromLeader) -> None:
        if isinstance(record, Tokens | Admitted):
            self.progressed_s = time.monotonic()
        match record:
            case Tokens():
                for token in record.tokens:
                    if (generation := self._generations.get(token.request_id)) is not None:
                        generation.push(token)
            case Admitted():
                if (generation := self._generations.get(record.request_id)) is not None:
                    generation.digests, generation.admitted = record.digests, True
                    generation.reused, generation.work = record.reused, self._on_our_clock(record.work)
                    generation.embedded = record.embedded
                    generation.cached_tokens = record.cached_tokens
                    generation.heard(generation.work, record.at_s)
                    self._release(generation)
                    if generation.aborted:
                        del self._generations[record.request_id]
            case Failed():
                if (generation := self._generations.pop(record.request_id, None)) is not None:
                    self._release(generation)
                    generation.work = self._on_our_clock(record.work)
                    generation.heard(generation.work, None)
                    generation.push(record.failure.error())
            case Attached():
                if record.epoch == self._epoch:
                    self._attached.set()
            case Progress():
                self._progress = record
            case LoopReport():
                self._loops[record.rank] = record

    def _on_our_clock(self, works: tuple[Work, ...]) -> tuple[Work, ...]:
        """Another machine has a clock of its own: its ranks are shown as if they had begun with rank 0."""
        if self._ranks_here is None or not works:
            return works
        began_s = works[0].began_s
        away = (msgspec.structs.replace(work, began_s=began_s, made_s=began_s) for work in works[self._ranks_here :])
        return (*works[: self._ranks_here], *away)

    def _release(self, generation: Generation) -> None:
        generation.free()
        for slot in generation.slots:
            self._arena.release(slot, self._process, generation.request_id)
        generation.slots = []
