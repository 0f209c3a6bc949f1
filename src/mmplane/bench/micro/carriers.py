"""Carriers: how the arena and other systems get features from a producer to its readers, one class for each.

A carrier is created before the fork, so that both sides know the same regions; then each process opens its end. The
other systems get their best case: the pickle is made once for all readers and sent without a copy; the named segment is
closed and unlinked after the clock has stopped; every peer is connected and warm.

Pickle and multiprocessing are only used here to measure them, between processes of one benchmark.
"""

# A hook of `Carrier` does nothing unless a carrier needs it, and a carrier need not use all arguments.
# ruff: noqa: B027, ARG002

from __future__ import annotations

import mmap
import os
import pickle
import socket
from abc import ABC, abstractmethod
from datetime import timedelta
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
import torch.multiprocessing as torch_processes
import zmq

from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.arena.segment import RegionMapping, create_region, reopen_read_only
from mmplane.bench.micro.team import DEADLINE_S, PREFIX, Team
from mmplane.core.records import MESSAGE_BYTES_MAX, Item, Slot, Tensor

Features = npt.NDArray[np.float32]

PRODUCER = Process("producer", 0, 1)

item_decoder = msgspec.msgpack.Decoder(Item)


class Carrier(ABC):
    """One way to get features from the producer (rank 0) to every reader (ranks from 1)."""

    name: ClassVar[str]

    def __init__(self, shape: tuple[int, ...], readers: int) -> None:
        self.shape = shape
        self.readers = readers

    def open(self, rank: int) -> None:
        """Connect this process's end."""
        if rank == 0:
            self.private: Features = np.zeros(self.shape, np.float32)

    def write(self, base: Features, addend: int) -> None:
        """Stands for the transform: its last pass, into the memory from which this carrier sends the features."""
        np.add(base, np.float32(addend), out=self.private)

    @abstractmethod
    def send(self, team: Team) -> None:
        """Producer, timed: send the features to all readers."""

    @abstractmethod
    def receive(self, control: socket.socket) -> Features:
        """Reader, timed: return an array of the features."""

    def touch(self, features: Features) -> None:
        """Reader, timed: show that they can be read."""
        flat = features.reshape(-1)
        float(flat[0]) + float(flat[-1])

    def sent(self) -> None:
        """Producer, untimed, after all readers have released the features."""

    def let_go(self) -> None:
        """Reader, untimed, after its check."""

    def close(self) -> None:
        """Disconnect."""


class InPlace(Carrier):
    """The arena: the transform writes into the shared memory, and a record of some hundred bytes is sent."""

    name = "arena in place"

    def __init__(self, shape: tuple[int, ...], readers: int) -> None:
        super().__init__(shape, readers)
        self.length_bytes = int(np.prod(shape)) * 4
        region_bytes = -(-self.length_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self.arena = Arena([region_bytes])
        self.region_bytes = region_bytes
        self.writable = create_region("handoff", region_bytes)
        self.read_only = reopen_read_only(self.writable)

    def open(self, rank: int) -> None:
        fd = self.read_only if rank else self.writable
        self.mapping = RegionMapping(fd, self.region_bytes, writable=rank == 0)

    def reserve(self) -> Features:
        self.slot = self.arena.reserve(0, self.length_bytes, PRODUCER)
        return features_in(self.mapping, item_of(self.slot, self.shape))

    def write(self, base: Features, addend: int) -> None:
        np.add(base, np.float32(addend), out=self.reserve())

    def send(self, team: Team) -> None:
        self.arena.commit(self.slot, PRODUCER)
        for rank in range(1, self.readers + 1):
            self.arena.lease(self.slot, Process("reader", rank, 1), 1)
        team.tell(msgspec.msgpack.encode(item_of(self.slot, self.shape)))

    def receive(self, control: socket.socket) -> Features:
        return features_in(self.mapping, item_decoder.decode(control.recv(MESSAGE_BYTES_MAX)))

    def sent(self) -> None:
        for rank in range(1, self.readers + 1):
            self.arena.release(self.slot, Process("reader", rank, 1), 1)
        assert not self.arena.statistics().slots

    def close(self) -> None:
        self.mapping.close()


class InPlaceEveryPage(InPlace):
    """The same, and each reader touches every page before it answers."""

    name = "arena in place, every page touched"

    def touch(self, features: Features) -> None:
        touch_pages(features)


class OneCopy(InPlace):
    """The arena after a transform that cannot write in place: one copy into a warm slot."""

    name = "arena, one copy"

    def open(self, rank: int) -> None:
        super().open(rank)
        Carrier.open(self, rank)

    def write(self, base: Features, addend: int) -> None:
        Carrier.write(self, base, addend)

    def send(self, team: Team) -> None:
        np.copyto(self.reserve(), self.private)
        super().send(team)


class ObjectCollective(Carrier):
    """`torch.distributed.broadcast_object_list` on gloo over loopback, as SGLang's ranks share requests."""

    name = "broadcast_object_list (gloo)"

    def __init__(self, shape: tuple[int, ...], readers: int) -> None:
        super().__init__(shape, readers)
        self.rendezvous = os.memfd_create("rendezvous")

    def open(self, rank: int) -> None:
        super().open(rank)
        world = self.readers + 1
        store = dist.FileStore(  # type: ignore[attr-defined]
            f"/proc/self/fd/{self.rendezvous}", world
        )
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=DEADLINE_S))

    def send(self, team: Team) -> None:
        dist.broadcast_object_list([self.private], src=0)

    def receive(self, control: socket.socket) -> Features:
        received: list[Any] = [None]
        dist.broadcast_object_list(received, src=0)
        features: Features = received[0]
        return features

    def close(self) -> None:
        dist.destroy_process_group()


class ZmqPickle(Carrier):
    """One pickle, pushed to every reader over a UNIX socket."""

    name = "ZMQ + pickle"

    def open(self, rank: int) -> None:
        super().open(rank)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        ranks = [rank] if rank else range(1, self.readers + 1)
        self.sockets = [self.context.socket(zmq.PULL if rank else zmq.PUSH) for _ in ranks]
        for each, peer in zip(self.sockets, ranks, strict=True):
            each.setsockopt(zmq.LINGER, 0)
            each.setsockopt(zmq.RCVTIMEO, DEADLINE_S * 1000)
            address = f"ipc://@{PREFIX}{self.readers}-{peer}"  # abstract: leaves no file behind
            each.bind(address) if rank else each.connect(address)

    def send(self, team: Team) -> None:
        message = pickle.dumps(self.private, protocol=5)
        for each in self.sockets:
            each.send(message, copy=False)

    def receive(self, control: socket.socket) -> Features:
        features: Features = pickle.loads(self.sockets[0].recv(copy=False).buffer)
        return features

    def close(self) -> None:
        self.context.destroy(linger=0)


class NamedSegment(Carrier):
    """A new POSIX shared memory segment per message: create, copy in, send its name, attach."""

    name = "named segment per message"

    def __init__(self, shape: tuple[int, ...], readers: int) -> None:
        super().__init__(shape, readers)
        self.turn = 0
        # One tracker for producer and readers: with one each, a reader's would unlink what the producer still uses.
        resource_tracker.ensure_running()

    def send(self, team: Team) -> None:
        self.turn += 1
        name = f"{PREFIX}{self.readers}-{self.turn}"
        self.segment = SharedMemory(name, create=True, size=self.private.nbytes)
        np.copyto(np.ndarray(self.shape, np.float32, self.segment.buf), self.private)
        team.tell(name.encode())

    def receive(self, control: socket.socket) -> Features:
        self.segment = SharedMemory(control.recv(MESSAGE_BYTES_MAX).decode())
        return np.ndarray(self.shape, np.float32, self.segment.buf)

    def sent(self) -> None:
        self.segment.close()
        self.segment.unlink()

    def let_go(self) -> None:
        self.segment.close()


class TorchQueue(Carrier):
    """`torch.multiprocessing`: a queue for each reader, which moves the tensor into separate shared memory."""

    name = "torch.multiprocessing"

    def __init__(self, shape: tuple[int, ...], readers: int) -> None:
        super().__init__(shape, readers)
        self.rank = 0
        context = torch_processes.get_context("fork")
        self.queues = [context.SimpleQueue() for _ in range(readers)]

    def open(self, rank: int) -> None:
        super().open(rank)
        self.rank = rank

    def send(self, team: Team) -> None:
        tensor = torch.from_numpy(self.private)
        for queue in self.queues:
            queue.put(tensor)

    def receive(self, control: socket.socket) -> Features:
        features: Features = self.queues[self.rank - 1].get().numpy()
        return features


CARRIERS: tuple[type[Carrier], ...] = (
    InPlace,
    InPlaceEveryPage,
    OneCopy,
    NamedSegment,
    TorchQueue,
    ZmqPickle,
    ObjectCollective,
)


def item_of(slot: Slot, shape: tuple[int, ...]) -> Item:
    """The record of features of this shape in this slot."""
    tensors = (Tensor("pixel_values", "float32", shape, 0), Tensor("image_grid_thw", "int64", (1, 3), 0))
    return Item(content_key=bytes(32), modality="image", slot=slot, tensors=tensors)


def features_in(mapping: RegionMapping, item: Item) -> Features:
    """The features of a record, in place."""
    tensor = item.tensors[0]
    view = mapping.view(item.slot.offset_bytes + tensor.offset_bytes, int(np.prod(tensor.shape)) * 4)
    return np.frombuffer(view, np.dtype(tensor.dtype)).reshape(tensor.shape)


def touch_pages(features: Features) -> float:
    """Read one number of every page."""
    return float(features.reshape(-1)[:: mmap.PAGESIZE // 4].sum())
