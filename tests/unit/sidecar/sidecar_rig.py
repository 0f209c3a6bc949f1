"""A keeper on a loop in a thread of this process, behind a real socket, and workers that are played.

What a played worker makes of media is its blake3 stream, so that every reader can tell right bytes from wrong ones.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from mmplane import Client
from mmplane.arena.arena import Arena
from mmplane.arena.label import create_labelled, new_plane
from mmplane.arena.leases import Process
from mmplane.arena.segment import RegionMapping
from mmplane.core.errors import bad_media
from mmplane.core.jobs import JobFailed, Materialise, Materialised, ToWorker, WorkerReady
from mmplane.core.records import DecodeProfile, Layout, Tensor
from mmplane.features.choice import Processors
from mmplane.features.contract.arrays import Arrays, views
from mmplane.features.contract.embeddings import EmbeddingForm
from mmplane.features.contract.image import ImageProcessor, Pixels
from mmplane.items.pool import Pool
from mmplane.items.shelf import Shelf
from mmplane.items.store import ItemStore
from mmplane.media import embeddings
from mmplane.sidecar.door import Door
from mmplane.sidecar.keeper import Keeper
from mmplane.sidecar.making import Making
from mmplane.sidecar.regions import Regions
from mmplane.waiting.budget import Budget
from mmplane.wire.link import Link, PeerGone, pair

PAGE_BYTES = 4096
HANG_S = 60.0
FINGERPRINT = b"f" * 32
OWNER = Process("keeper", 0, 1)
ResultT = TypeVar("ResultT")


class BytesOfMedia(ImageProcessor):
    """As many bytes as the image has pixels, or as the argument `max_pixels` allows."""

    layout_is_cheap = True
    placeholder_id = 268
    fingerprint = FINGERPRINT

    def __init__(self, pixels_max: int = 2**31) -> None:
        self._pixels_max = pixels_max

    def layout(self, width: int, height: int) -> Layout:
        length = min(width * height, self._pixels_max)
        return Layout((Tensor("f", "uint8", (length,), 0),), ((268, 4),), length)

    def adjusted(self, arguments: Mapping[str, Any]) -> BytesOfMedia:
        if arguments.keys() != {"max_pixels"}:
            raise ValueError(f"no such argument: {', '.join(arguments)}")
        return BytesOfMedia(arguments["max_pixels"])

    def write(self, pixels: Pixels, out: Arrays) -> int:
        raise NotImplementedError

    def warm(self) -> None: ...


EMBEDDINGS = EmbeddingForm(268, width=8, merge=2)


def features(media: bytes, side: int = 32) -> npt.NDArray[np.uint8]:
    """What the played workers make of it."""
    return np.frombuffer(blake3(media).digest(side * side), np.uint8)


class Gate:
    """Closed, it holds workers before they write; `begun` counts those that came to it."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self.begun = threading.Semaphore(0)

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def pass_(self) -> None:
        self.begun.release()
        assert self._open.wait(HANG_S)


class Rig:
    """The sidecar without its processes. `worker_bytes` is each worker's region."""

    def __init__(
        self, path: str, *, workers: int = 2, worker_bytes: int = 16 * PAGE_BYTES, profile: DecodeProfile = "mmplane"
    ) -> None:
        self.socket = path
        self.processors = Processors("uint8", BytesOfMedia(), embeddings=EMBEDDINGS, decode_profile=profile)
        self._ends = ExitStack()
        self.gate = Gate()
        self.lengths_bytes = [64 * PAGE_BYTES, *([worker_bytes] * workers)]
        plane = new_plane()
        self.regions = [create_labelled("test", length, plane, at) for at, length in enumerate(self.lengths_bytes)]
        self.media = RegionMapping(self.regions[0], self.lengths_bytes[0], writable=True)
        self._loop = asyncio.new_event_loop()
        self._threads = [threading.Thread(target=self._run)]
        self._threads[0].start()
        ends = self.on_loop(self._build, workers)
        for index, end in enumerate(ends, 1):
            self._threads.append(threading.Thread(target=self._work, args=(index, end)))
            self._threads[-1].start()

    def on_loop(self, call: Callable[..., ResultT], *arguments: Any) -> ResultT:
        async def run() -> ResultT:
            return call(*arguments)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(HANG_S)

    def await_on_loop(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(HANG_S)

    def client(self, **how: Any) -> Client:
        return Client(self.socket, limit_s=HANG_S, **how)

    def statistics(self) -> dict[str, Any]:
        """The keeper's figures, once its loop has heard all that was sent before."""
        return self.on_loop(self.keeper.statistics)

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The figures as soon as they are so: after an event of another process, for which nobody can wait."""
        deadline = threading.Event()
        timer = threading.Timer(HANG_S, deadline.set)
        timer.start()
        try:
            while not holds(figures := self.statistics()):
                assert not deadline.is_set(), figures
            return figures
        finally:
            timer.cancel()

    def closing(self, end: Callable[[], object]) -> None:
        """Have this called when the rig is closed."""
        self._ends.callback(end)

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._ends.close()
        self.gate.open()
        self.on_loop(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        for thread in self._threads:
            thread.join(HANG_S)
        for writable in (True, False):
            for region in self._shared.descriptors(writable=writable):
                os.close(region)
        Path(self.socket).unlink()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def _build(self, workers: int) -> list[socket.socket]:
        self.arena = Arena(self.lengths_bytes, align_bytes=PAGE_BYTES)
        self.pool = Pool(
            fingerprint=self.processors.fingerprint,
            workers=workers,
            item_seconds=HANG_S,
            waiting_max=64,
            tell_supervisor=lambda _: None,
            gone=self.arena.reaped,
        )
        self.budget = Budget(2**30, kept_bytes=2**29)
        shelf = Shelf(self.arena, self.media, OWNER)
        self.store = ItemStore(self.arena, self.pool, self.processors, shelf, OWNER, self.budget, cache=True)
        self._shared = Regions(self.arena, self.regions, producers_bytes=64 * PAGE_BYTES)
        self.keeper = Keeper(
            self.arena,
            Making(self.store, self.pool, self.budget, fingerprint=FINGERPRINT, media_bytes_max=2**20),
            self._shared,
            OWNER,
        )
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.socket)
        self.door = Door(self._listener, self.keeper.admit, group=False)
        self.door.open()
        ends = []
        for index in range(1, workers + 1):
            ours, theirs = pair()
            self.pool.add(index, index, ours.detach())
            ends.append(theirs)
        return ends

    def _work(self, index: int, end: socket.socket) -> None:
        link: Link[Any] = Link(end, ToWorker)
        out = RegionMapping(self.regions[index], self.lengths_bytes[index], writable=True)
        try:
            link.send(WorkerReady(self.processors.fingerprint), limit_s=HANG_S)
            while (received := link.receive(limit_s=HANG_S)) is not None:
                job: Materialise = received[0]
                self.gate.pass_()
                media = bytes(self.media.view(job.media.offset_bytes, job.media.length_bytes))
                if b"cannot be decoded" in media:
                    link.send(JobFailed(job.job_id, bad_media("the image is damaged").failure()), limit_s=HANG_S)
                    continue
                length_bytes = job.out.length_bytes
                slot = out.view(job.out.offset_bytes, length_bytes)
                if job.recipe.embedded:
                    embeddings.write(media, views(job.recipe.layout.tensors, slot))
                else:
                    slot[:] = blake3(media).digest(length_bytes)
                link.send(Materialised(job.job_id, 1.0, 1.0, length_bytes), limit_s=HANG_S)
        except PeerGone:
            link.close()

    def _end(self) -> None:
        for index in range(1, len(self.lengths_bytes)):
            self.pool.remove(index, index)
        self.door.close()
        self.keeper.close()

    def check_at_rest(self) -> None:
        """Nobody holds anything, and the books agree."""
        self.until(lambda now: not (now["holds"] or now["leases"] or now["requests"] or now["arena"]["leases"]))
        self.on_loop(self.keeper.check_integrity)
        assert self.on_loop(self.budget.statistics).reserved_bytes == 0
