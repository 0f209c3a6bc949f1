"""The shelf: bytes that the front end stores in its own region for other processes to read.

Bytes are stored in a slot that is leased to their reader, and freed when the reader has released them or died. Encoded
media may be there already: a long body is stored as it arrives, and its items are parts of its slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext, suppress

import numpy as np

from mmplane.arena.arena import Arena
from mmplane.arena.errors import ArenaError, ArenaFull
from mmplane.arena.leases import Process
from mmplane.arena.segment import RegionMapping
from mmplane.core.errors import ArenaHasNoRoom, RequestError
from mmplane.core.records import Slot
from mmplane.items.crew import MachineLost, Worker, WorkerLost, check_alive
from mmplane.items.parked import LONG_BYTES, MediaBytes, Parked

FRONT_REGION = 0


class Shelf:
    """The front end's region as a place for bytes."""

    def __init__(self, arena: Arena, region: RegionMapping, owner: Process) -> None:
        self._arena = arena
        self._region = region
        self._owner = owner

    def store(self, content: bytes | memoryview, reader: Process, tag: int) -> Slot:
        """Store bytes in the region, leased to `reader`: freed when it releases them or dies. Raises RequestError."""
        slot = self._reserve(len(content))
        self._region.view(slot.offset_bytes, slot.length_bytes)[:] = content
        self._arena.commit(slot, self._owner)
        self._arena.lease(slot, reader, tag)
        return slot

    def take_back(self, slot: Slot, reader: Process, tag: int) -> None:
        """The reader has read what was stored for it or lent to it, or was never told of it."""
        self._arena.release(slot, reader, tag)

    @contextmanager
    def lent(self, media: MediaBytes, worker: Worker, tag: int) -> Iterator[Slot]:
        """Return where the worker reads the media, leased to it until it has answered or has been reaped."""
        check_alive(worker)
        source, part = self._lend(media, worker.process, tag)
        try:
            yield part
        except WorkerLost:
            raise
        except MachineLost:
            with suppress(ArenaError):  # its porter may have been reaped
                self.take_back(source, worker.process, tag)
            raise
        except RequestError:
            self.take_back(source, worker.process, tag)
            raise
        self.take_back(source, worker.process, tag)

    def _lend(self, media: MediaBytes, reader: Process, tag: int) -> tuple[Slot, Slot]:
        """Return the slot leased to `reader` and the media's position in it; media elsewhere is stored first."""
        if isinstance(media, Parked):
            self._arena.lease(media.whole, reader, tag)
            return media.whole, media.part
        slot = self.store(media, reader, tag)
        return slot, slot

    def laid_down(self, media: MediaBytes) -> AbstractAsyncContextManager[MediaBytes]:
        """Provide long media in the region for the block, copied by a thread; other media as it is.

        Raises RequestError if there is no room.
        """
        if isinstance(media, Parked) or len(media) <= LONG_BYTES:
            return nullcontext(media)
        return self._laid_down(media)

    @asynccontextmanager
    async def _laid_down(self, media: bytes | memoryview) -> AsyncIterator[MediaBytes]:
        slot = self._reserve(len(media))
        view = self._region.view(slot.offset_bytes, slot.length_bytes)
        try:
            await asyncio.to_thread(copy, view, media)
        except Exception:  # there is no thread for it; a cancelled one may still write
            self._arena.abandon(slot, self._owner)
            raise
        self._arena.commit(slot, self._owner)
        self._arena.lease(slot, self._owner, slot.generation)
        try:
            yield Parked(slot, slot, b"", view.toreadonly())
        finally:
            self._arena.release(slot, self._owner, slot.generation)

    def keep(self, media: MediaBytes) -> None:
        """Keep parked media for work that has started with it, even if its request ends."""
        if isinstance(media, Parked):
            self._arena.lease(media.whole, self._owner, media.whole.generation)

    def let_go(self, media: MediaBytes) -> None:
        """The work that started with it has ended."""
        if isinstance(media, Parked):
            self._arena.release(media.whole, self._owner, media.whole.generation)

    def _reserve(self, length_bytes: int) -> Slot:
        try:
            return self._arena.reserve(FRONT_REGION, length_bytes, self._owner)
        except ArenaFull as full:
            raise ArenaHasNoRoom(ever=full.ever) from None


def copy(out: memoryview, media: bytes | memoryview) -> None:
    """Copy with NumPy, which releases the interpreter's lock."""
    np.copyto(np.frombuffer(out, np.uint8), np.frombuffer(media, np.uint8))
