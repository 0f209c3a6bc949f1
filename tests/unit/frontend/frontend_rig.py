"""The front end's parts on real links and a real arena; workers and ranks are played by the test, in the same loop."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import cache
from typing import Any

from frontend_loop import settle
from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.arena.segment import RegionMapping, create_region
from mmplane.core.errors import RequestError, bad_media
from mmplane.core.jobs import JobFailed, Materialise, Materialised, Measured, ToWorker, WorkerReady
from mmplane.core.keys import media_digest
from mmplane.core.parsing import Parse, ParserReady, ToParser
from mmplane.core.plan import Admitted, Attached, Failed, Sampling, Submit, Token, Tokens, ToLeader
from mmplane.core.records import Ask, Clip, Layout, Recipe, Record, Tensor
from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.choice import Processors
from mmplane.features.contract.arrays import Arrays
from mmplane.features.contract.image import ImageProcessor, Pixels
from mmplane.features.contract.video import VideoProcessor
from mmplane.frontend.request.bodies import Bodies
from mmplane.frontend.request.parser import answer
from mmplane.frontend.request.renderer import Renderer
from mmplane.frontend.send.group import Group
from mmplane.items.pool import Pool
from mmplane.items.shelf import Shelf
from mmplane.items.store import Asset, ItemStore
from mmplane.models.tiny import CHAT_TEMPLATE, tiny_tokenizer
from mmplane.waiting.budget import Budget
from mmplane.wire.link import Link, PeerGone, pair
from mmplane.wire.stream import HEADER, stream_pair

FINGERPRINT = b"f" * 32
EPOCH = 3
PAGE_BYTES = 4096
FRONTEND = Process("frontend", 0, 1)
IMAGE = Ask("image")
VIDEO = Ask("video", frames_max=8)
GREEDY = Sampling(tokens_max=8, temperature=0.0, top_p=1.0, seed=0, samples=1)


def layout_of(length_bytes: int) -> Layout:
    return Layout((Tensor("pixel_values", "uint8", (length_bytes,), 0),), ((268, 4),), length_bytes)


CONTEXT_TOKENS = 10_000


@cache
def renderer() -> Renderer:
    """The built-in model's: a token for each byte."""
    return Renderer(tiny_tokenizer(), CHAT_TEMPLATE, CONTEXT_TOKENS)


class OneBytePerPixel(ImageProcessor):
    """A processor whose layouts can be told from the size by hand."""

    def __init__(self, *, cheap: bool) -> None:
        self.layout_is_cheap = cheap  # type: ignore[misc]

    @property
    def fingerprint(self) -> bytes:
        return FINGERPRINT

    @property
    def placeholder_id(self) -> int:
        return 268

    def layout(self, width: int, height: int) -> Layout:
        if width * height > 1_000_000:
            raise bad_media("too large for this model")
        return layout_of(width * height)

    def write(self, pixels: Pixels, out: Arrays) -> int:
        raise NotImplementedError

    def warm(self) -> None:
        raise NotImplementedError


class OneTokenPerFrame(VideoProcessor):
    """A processor that is only ever asked for its fingerprint: workers look into clips."""

    @property
    def fingerprint(self) -> bytes:
        return b"v" * 32

    @property
    def placeholder_id(self) -> int:
        return 269

    def sample(
        self, frames_total: int, fps: float | None, *, frames_max: int = 0, fps_max: float = 0.0
    ) -> tuple[int, ...]:
        raise NotImplementedError

    def layout(self, clip: Clip) -> Layout:
        raise NotImplementedError

    def write(self, frames: Any, clip: Clip, out: Arrays) -> int:
        raise NotImplementedError

    def warm(self) -> None:
        raise NotImplementedError


class Peer:
    """The other end of a link: says and hears what the test wants."""

    def __init__(self, end: Any, receives: object) -> None:
        self._link: Link[Any] = Link(end, receives)

    def say(self, *records: Record) -> None:
        for record in records:
            assert self._link.send_nowait(record), "the peer does not read"

    async def hear(self) -> Any:
        """The next record, whenever it comes."""
        while (received := self._link.receive_nowait()) is None:  # noqa: ASYNC110 - a socket sets no event
            await asyncio.sleep(0)
        return received[0]

    async def hear_all(self) -> list[Any]:
        """What is there once everything has settled."""
        await settle()
        records = []
        while (received := self._link.receive_nowait()) is not None:
            records.append(received[0])
        return records

    async def is_left(self) -> bool:
        """Whether our end was closed."""
        await settle()
        try:
            while self._link.receive_nowait() is not None:
                pass
        except PeerGone:
            return True
        return False

    def close(self) -> None:
        self._link.close()


class PlayedWorker(Peer):
    """A worker process, as the front end sees it."""

    def __init__(self, rig: Rig, index: int, incarnation: int) -> None:
        ours, theirs = pair()
        super().__init__(theirs, ToWorker)
        self._rig = rig
        self.process = Process("worker", index, incarnation)
        rig.pool.add(index, incarnation, ours.detach())

    def done(self, job: Materialise) -> None:
        self.say(
            Materialised(job.job_id, decode_ms=1.0, transform_ms=2.0, bytes_written=job.recipe.layout.length_bytes)
        )

    def failed(self, job: Materialise, error: RequestError) -> None:
        self.say(JobFailed(job.job_id, error.failure()))

    async def serve_one(self) -> Materialise:
        job: Materialise = await self.hear()
        self.done(job)
        return job

    async def measure_one(self, layout: Layout) -> None:
        job = await self.hear()
        self.say(Measured(job.job_id, layout))

    def media_of(self, job: Materialise) -> bytes:
        return bytes(self._rig.media.view(job.media.offset_bytes, job.media.length_bytes))

    def die(self) -> None:
        """It is dead and the supervisor has said so."""
        self.close()
        self._rig.pool.remove(self.process.index, self.process.incarnation)


class PlayedParser(Peer):
    """A parser process, as the front end sees it; it works on the rig's own region."""

    def __init__(self, rig: Rig, incarnation: int = 1) -> None:
        ours, theirs = pair()
        super().__init__(theirs, ToParser)
        self._rig = rig
        self.incarnation = incarnation
        rig.bodies.parser.add(incarnation, ours.detach())
        self.say(ParserReady())

    async def parse_one(self) -> Parse:
        job: Parse = await self.hear()
        self.say(answer(job, self._rig.media, self._rig.renderer))
        return job

    def die(self) -> None:
        self.close()
        self._rig.bodies.parser.remove(self.incarnation)


class PlayedLeader(Peer):
    """The leader of a rank group, as the front end sees it."""

    def __init__(self, rig: Rig, incarnation: int) -> None:
        ours, theirs = pair()
        super().__init__(theirs, ToLeader)
        self._rig = rig
        self.process = Process("ranks", 0, incarnation)
        stream, self._parcels = stream_pair()
        rig.group.connect(incarnation, "float32", ours.detach(), stream.detach())

    async def attach(self, epoch: int = EPOCH) -> PlayedLeader:
        self.say(Attached(epoch))
        await settle()
        return self

    def admit(self, submit: Submit) -> None:
        self.say(Admitted(submit.request_id, ((b"rank 0",), (b"rank 1",))))

    def fail(self, submit: Submit, error: RequestError) -> None:
        self.say(Failed(submit.request_id, error.failure()))

    def tell(self, submit: Submit, *tokens: tuple[int, int, str | None]) -> None:
        """Tokens as (sample, token, reason)."""
        self.say(Tokens(1, tuple(Token(submit.request_id, *token) for token in tokens)))

    def close(self) -> None:
        super().close()
        self._parcels.close()

    def read_parcel(self) -> bytearray:
        """The next parcel, whole; blocking."""
        start = self._parcels.recv(HEADER.size, socket.MSG_WAITALL)
        _, length_bytes, _ = HEADER.unpack(start)
        return bytearray(self._parcels.recv(length_bytes, socket.MSG_WAITALL))

    def die(self) -> None:
        """The whole group is dead and the supervisor has said so."""
        self.close()
        self._rig.group.gone(self.process.incarnation)


class Rig:
    """Arena, pool, store and group, wired as the front end's main does it."""

    def __init__(
        self,
        *,
        cache: bool = True,
        cheap: bool = True,
        front_bytes: int = 64 * PAGE_BYTES,
        worker_bytes: int = 16 * PAGE_BYTES,
        workers: int = 2,
        porters: int = 0,
        encoding: Encoding = "uint8",
        item_seconds: float = 30.0,
        waiting_max: int = 64,
        in_flight_max: int = 8,
        tenants: int = 0,
    ) -> None:
        self.arena = Arena([front_bytes, *([worker_bytes] * (workers + porters))], first_generation=EPOCH << 40)
        descriptor = create_region("test-front", front_bytes)
        self.media = RegionMapping(descriptor, front_bytes, writable=True)
        os.close(descriptor)
        self.told: list[Record] = []
        """What the supervisor was told."""
        self.pool = Pool(
            fingerprint=FINGERPRINT,
            workers=workers,
            item_seconds=item_seconds,
            waiting_max=waiting_max,
            tell_supervisor=self.told.append,
            gone=self.arena.reaped,
        )
        processors = Processors(encoding, OneBytePerPixel(cheap=cheap), OneTokenPerFrame())
        self.budget = Budget(2**30, kept_bytes=2**29)
        self.shelf = Shelf(self.arena, self.media, FRONTEND)
        self.store = ItemStore(
            self.arena, self.pool, processors, self.shelf, FRONTEND, self.budget, cache=cache, tenants=tenants
        )
        self.renderer = renderer()
        self.bodies = Bodies(
            self.arena,
            self.media,
            FRONTEND,
            renderer=self.renderer,
            bytes_max=front_bytes,
            tell_supervisor=self.told.append,
            tenants=tenants,
        )
        self.group = Group(self.arena, FRONTEND, EPOCH, in_flight_max=in_flight_max)
        self.peers: list[PlayedWorker | PlayedLeader | PlayedParser] = []
        self._tags = iter(range(1, 1_000_000))

    async def worker(self, index: int = 1, incarnation: int = 1) -> PlayedWorker:
        """A worker that is up and idle."""
        worker = PlayedWorker(self, index, incarnation)
        self.peers.append(worker)
        worker.say(WorkerReady(FINGERPRINT))
        await settle()
        return worker

    async def porter(self, index: int, lanes: int = 1, *, incarnation: int = 1, life: int = 1) -> PlayedWorker:
        """A porter, whose index comes after the workers', with a media machine behind it."""
        porter = PlayedWorker(self, index, incarnation)
        self.peers.append(porter)
        porter.say(WorkerReady(FINGERPRINT, lanes, life))
        await settle()
        return porter

    async def parser(self, incarnation: int = 1) -> PlayedParser:
        """A parser that is up and idle."""
        parser = PlayedParser(self, incarnation)
        self.peers.append(parser)
        await settle()
        return parser

    async def leader(self, incarnation: int = 1) -> PlayedLeader:
        """A group that is up and attached."""
        leader = PlayedLeader(self, incarnation)
        self.peers.append(leader)
        return await leader.attach()

    def asking(
        self,
        name: str,
        length_bytes: int = 100,
        *,
        tag: int | None = None,
        probe: bool = False,
        decoded_bytes: int = 0,
        tenant: str = "",
        patient: bool = True,
    ) -> asyncio.Task[Asset]:
        """Somebody asks for the item whose media is `name`."""
        media = name.encode()
        key = self.store.recipes.key(IMAGE, media_digest(media), tenant=tenant)
        tag = next(self._tags) if tag is None else tag
        recipe = Recipe("image", layout_of(length_bytes), decoded_bytes=decoded_bytes)
        asset = self.store.acquire(key, media, recipe, tag, tenant=tenant, probe=probe, patient=patient)
        return asyncio.create_task(asset, name=str(tag))

    async def release(self, *tasks: asyncio.Task[Asset]) -> None:
        """Those who asked need it no more."""
        for task in tasks:
            self.store.release((await task).item, int(task.get_name()))

    def submit(self, *assets: Asset, sampling: Sampling = GREEDY) -> Submit:
        """A request with these items."""
        items = tuple(asset.item for asset in assets)
        placeholders = tuple(((4 * number, 4),) for number, _ in enumerate(items))
        return Submit(self.group.next_request_id(), b"1234", None, 1, items, placeholders, sampling)

    def check_nothing_is_held(self) -> None:
        """Invariant 6: when nobody is served, every byte is free or may be evicted."""
        self.arena.check_integrity()
        statistics = self.arena.statistics()
        assert statistics.leases == 0
        assert self.budget.statistics().reserved_bytes == 0
        total = statistics.total
        assert total.free_bytes + total.evictable_bytes == total.length_bytes, statistics


@asynccontextmanager
async def rigged(**options: Any) -> AsyncIterator[Rig]:
    """A rig whose books must balance at the end, before any process is reaped."""
    rig = Rig(**options)
    try:
        yield rig
        await settle()
        rig.check_nothing_is_held()
    finally:
        with ExitStack() as ends:  # all of them, also when a mutant fails at one: what it left open fails a later test
            for peer in rig.peers:
                ends.callback(peer.die)
        await settle()
    rig.check_nothing_is_held()
