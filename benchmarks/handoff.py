"""What it costs to hand one item's features to every rank, five ways, in one run.

    python benchmarks/handoff.py --megabytes 31.5 --readers 1,2,4,8 --rounds 9 --json handoff.json

Handing over starts when the producer has the features and ends when every reader has said that it can read them (it has
touched the first and the last element). Producing them is not counted, and is shown apart, because in place it is the
transform's own last write. The ways take turns within each round, in an order that rotates, so that a noisy machine
disturbs all alike. After each turn every reader returns 64 bytes from a random offset, and they are compared.

Bias, declared: what we compare with gets its best case. The pickle is made once for all readers and sent without a
copy; the named segment is closed and unlinked after the clock has stopped; every peer is connected and warm.

Pickle is used here and nowhere else, to measure it.
"""

# A hook of `Carrier` does nothing unless a way needs it, and a way need not use all that it is given.
# ruff: noqa: B027, ARG002

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import mmap
import os
import pickle
import platform
import random
import select
import signal
import socket
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from importlib.metadata import version
from itertools import product
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from statistics import median, quantiles
from typing import Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt
import torch.distributed as dist
import zmq

from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.arena.segment import Mapping, check_memory, create_region, reopen_read_only
from mmplane.core.records import MESSAGE_BYTES_MAX, Item, Slot, Tensor

Features = npt.NDArray[np.float32]
Row = dict[str, Any]

DEADLINE_S = 120
"""Tells progress from a hang, no more."""

PREFIX = f"mmplane-handoff-{os.getpid()}-"
PROBE_BYTES = 64
PRODUCER = Process("producer", 0, 1)

item_decoder = msgspec.msgpack.Decoder(Item)


# Processes: a producer in a process group of its own, which forks its readers; the group never outlives the call.


def die_with_parent(parent: int) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def fork(work: Callable[[], None]) -> int:
    """A child that runs `work` and ends, whatever happens, without running its parent's clean-up."""
    parent = os.getpid()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        die_with_parent(parent)
        work()
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def in_group(work: Callable[[], list[Row]]) -> list[Row]:
    """Run `work` in a child that leads a process group; what it returns. The group is gone afterwards, error or not."""
    reading, writing = os.pipe()

    def child() -> None:
        os.setpgid(0, 0)
        os.close(reading)
        with open(writing, "wb") as out:
            out.write(json.dumps(work()).encode())

    pid = fork(child)
    with suppress(ProcessLookupError, PermissionError):
        os.setpgid(pid, pid)  # on both sides: whoever comes first
    os.close(writing)
    try:
        with open(reading, "rb") as answer:
            text = answer.read()  # until the producer and its readers have all closed their copy
        if not text:
            raise RuntimeError("the producer failed; its error is above")
        rows: list[Row] = json.loads(text)
        return rows
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for left in Path("/dev/shm").glob(f"{PREFIX}*"):
            left.unlink()


class Team:
    """The producer's end of one control socket per reader. A reader that has gone is an error, not a wait."""

    def __init__(self, count: int, read: Callable[[int, socket.socket], None]) -> None:
        self.sockets: list[socket.socket] = []
        for rank in range(1, count + 1):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.sockets.append(ours)
            fork(lambda rank=rank, theirs=theirs: self._run(read, rank, theirs))  # type: ignore[misc]
            theirs.close()
            ours.settimeout(DEADLINE_S)

    def _run(self, read: Callable[[int, socket.socket], None], rank: int, theirs: socket.socket) -> None:
        for inherited in self.sockets:  # else a sibling would keep a dead producer's socket open
            inherited.close()
        read(rank, theirs)

    def tell(self, message: bytes) -> None:
        assert len(message) <= MESSAGE_BYTES_MAX
        for each in self.sockets:
            each.send(message)

    def gather(self) -> list[bytes]:
        answers = [each.recv(MESSAGE_BYTES_MAX) for each in self.sockets]
        if not all(answers):
            raise RuntimeError("a reader has ended")
        return answers

    def ask(self, message: bytes) -> list[bytes]:
        self.tell(message)
        return self.gather()


# Carriers: made before the fork, so that both sides know the same regions; then each process opens its end.


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
        """Stand for the transform: its last pass over the features, into wherever this way has them afterwards."""
        np.add(base, np.float32(addend), out=self.private)

    @abstractmethod
    def send(self, team: Team) -> None:
        """Producer, timed: from features to all readers."""

    @abstractmethod
    def receive(self, control: socket.socket) -> Features:
        """Reader, timed: an array of the features."""

    def touch(self, features: Features) -> None:
        """Reader, timed: show that they can be read."""
        flat = features.reshape(-1)
        float(flat[0]) + float(flat[-1])

    def sent(self) -> None:
        """Producer, untimed, after all readers have let go."""

    def let_go(self) -> None:
        """Reader, untimed, after its check."""

    def close(self) -> None:
        """Disconnect."""


class InPlace(Carrier):
    """The arena: the transform's own output is the shared memory, and a record of some hundred bytes goes out."""

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
        self.mapping = Mapping(fd, self.region_bytes, writable=rank == 0)

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
    """The same, and each reader touches every page of it before it answers."""

    name = "arena in place, every page touched"

    def touch(self, features: Features) -> None:
        touch_pages(features)


class OneCopy(InPlace):
    """The arena behind a transform that cannot write in place: one copy into a slot that is already warm."""

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
        store = dist.FileStore(f"/proc/self/fd/{self.rendezvous}", world)
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
            address = f"ipc://@{PREFIX}{self.readers}-{peer}"  # abstract: no file to leave behind
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


CARRIERS: tuple[type[Carrier], ...] = (
    InPlace,
    InPlaceEveryPage,
    OneCopy,
    NamedSegment,
    ZmqPickle,
    ObjectCollective,
)


def item_of(slot: Slot, shape: tuple[int, ...]) -> Item:
    tensors = (Tensor("pixel_values", "float32", shape, 0), Tensor("image_grid_thw", "int64", (1, 3), 0))
    return Item(content_key=bytes(32), modality="image", slot=slot, tensors=tensors)


def features_in(mapping: Mapping, item: Item) -> Features:
    """The features of a record, in place."""
    tensor = item.tensors[0]
    view = mapping.view(item.slot.offset_bytes + tensor.offset_bytes, int(np.prod(tensor.shape)) * 4)
    return np.frombuffer(view, np.dtype(tensor.dtype)).reshape(tensor.shape)


def touch_pages(features: Features) -> float:
    return float(features.reshape(-1)[:: mmap.PAGESIZE // 4].sum())


# The first table: handing over


@contextmanager
def opened(carriers: list[Carrier], rank: int) -> Iterator[None]:
    with ExitStack() as stack:
        for carrier in carriers:
            carrier.open(rank)
            stack.callback(carrier.close)
        yield


def read_turns(carriers: list[Carrier], rank: int, control: socket.socket) -> None:
    """A reader: for each turn, wait, receive, answer, show a probe, let go."""
    with opened(carriers, rank):
        control.send(b"open")
        while (number := control.recv(16)) != b"end":
            carrier = carriers[int(number)]
            control.send(b"waiting")
            features = carrier.receive(control)
            carrier.touch(features)
            control.send(b"can read")
            start = int(control.recv(32))
            control.send(features.reshape(-1).view(np.uint8)[start : start + PROBE_BYTES].tobytes())
            del features
            control.recv(16)
            carrier.let_go()
            control.send(b"let go")
        control.send(b"ended")


def take_turn(carrier: Carrier, number: int, team: Team, base: Features, addend: int) -> tuple[float, float]:
    """One handing over by one carrier: (write, hand over) in milliseconds."""
    started = time.perf_counter()
    carrier.write(base, addend)
    written = time.perf_counter()
    team.ask(str(number).encode())
    ready = time.perf_counter()
    carrier.send(team)
    team.gather()
    done = time.perf_counter()
    start = random.randrange(base.nbytes - PROBE_BYTES) // 4 * 4
    expected = (base.reshape(-1)[start // 4 : (start + PROBE_BYTES) // 4] + np.float32(addend)).tobytes()
    if set(team.ask(str(start).encode())) != {expected}:
        raise RuntimeError(f"{carrier.name}: a reader has other bytes")
    team.ask(b"let go")
    carrier.sent()
    return (written - started) * 1e3, (done - ready) * 1e3


def hand_over(shape: tuple[int, ...], readers: int, rounds: int) -> list[Row]:
    """All carriers with one number of readers; runs in the producer."""
    carriers = [carrier(shape, readers) for carrier in CARRIERS]
    team = Team(readers, lambda rank, control: read_turns(carriers, rank, control))
    base: Features = np.random.default_rng(1).random(shape, np.float32)
    times: dict[str, list[tuple[float, float]]] = {carrier.name: [] for carrier in carriers}
    gc.disable()
    with opened(carriers, 0):
        team.gather()
        for turn in range(rounds + 1):
            for index in range(len(carriers)):
                number = (index + turn) % len(carriers)
                taken = take_turn(carriers[number], number, team, base, turn * len(carriers) + number)
                if turn:  # the first round warms up
                    times[carriers[number].name].append(taken)
                gc.collect()
        team.ask(b"end")
    return [
        {
            "carrier": name,
            "readers": readers,
            "bytes": base.nbytes,
            "hand_over_ms": spread([done for _, done in pairs]),
            "write_ms": spread([written for written, _ in pairs]),
        }
        for name, pairs in times.items()
    ]


# The second table: what a record costs its reader, by size


class Unpopulated:
    """The same region mapped without MAP_POPULATE, for contrast: `segment` has no such thing."""

    def __init__(self, fd: int, length_bytes: int) -> None:
        self.memory = mmap.mmap(fd, length_bytes, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)

    def view(self, offset_bytes: int, length_bytes: int) -> memoryview:
        return memoryview(self.memory)[offset_bytes : offset_bytes + length_bytes]

    def close(self) -> None:
        self.memory.close()


def read_records(fd: int, region_bytes: int, control: socket.socket) -> None:
    """A reader that clocks itself, from the moment its message is there: (take, touch every page) in microseconds.

    Each turn begins with a dry run on the first bytes of the region, so that all find the code in the processor's
    caches: else whoever comes after 256 MB looks slow.
    """
    populated = Mapping(fd, region_bytes, writable=False)
    dry_run = msgspec.msgpack.encode(item_of(Slot(0, 0, PROBE_BYTES, 0), (PROBE_BYTES // 4,)))
    while (kind := control.recv(16)) != b"end":
        mapping: Any = populated if kind == b"populated" else Unpopulated(fd, region_bytes)
        float(features_in(populated, item_decoder.decode(dry_run))[0])
        control.send(b"waiting")
        select.select([control], [], [], DEADLINE_S)
        started = time.perf_counter()
        item = item_decoder.decode(control.recv(MESSAGE_BYTES_MAX))
        features = features_in(mapping, item)
        flat = features.reshape(-1)
        float(flat[0]) + float(flat[-1])
        taken = time.perf_counter()
        touch_pages(features)
        touched = time.perf_counter()
        control.send(json.dumps([(taken - started) * 1e6, (touched - taken) * 1e6]).encode())
        del features, flat
        if mapping is not populated:
            mapping.close()
    populated.close()
    control.send(b"ended")


def reader_costs(sizes_bytes: list[int], rounds: int) -> list[Row]:
    """One reader, all sizes, both kinds of mapping, taking turns; runs in the producer."""
    region_bytes = sum(sizes_bytes)
    check_memory(region_bytes)
    fd = create_region("records", region_bytes)
    arena = Arena([region_bytes])
    slots = [arena.reserve(0, size_bytes, PRODUCER) for size_bytes in sizes_bytes]
    team = Team(1, lambda _, control: read_records(reopen_read_only(fd), region_bytes, control))
    times: dict[tuple[str, int], list[list[float]]] = {}
    for turn in range(rounds + 1):
        turns = list(product(("populated", "not populated"), slots))
        if turn:  # the first round warms up, and sets the order of the table
            random.shuffle(turns)
        for kind, slot in turns:
            team.ask(kind.encode())
            (answer,) = team.ask(msgspec.msgpack.encode(item_of(slot, (slot.length_bytes // 4,))))
            taken = times.setdefault((kind, slot.length_bytes), [])
            if turn:
                taken.append(json.loads(answer))
    team.ask(b"end")
    return [
        {
            "mapping": kind,
            "bytes": size_bytes,
            "take_us": spread([take for take, _ in pairs]),
            "touch_every_page_us": spread([touch for _, touch in pairs]),
        }
        for (kind, size_bytes), pairs in times.items()
    ]


# Report


def spread(values: list[float]) -> dict[str, float]:
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": median(values), "p25": low, "p75": high, "min": min(values), "max": max(values)}


def shown(figures: dict[str, float]) -> str:
    return f"{figures['median']:10.3f} ({figures['p25']:.3f} to {figures['p75']:.3f})"


def environment() -> Row:
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), ":")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": cpu.split(":", 1)[1].strip(),
        "load": os.getloadavg()[0],
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "msgspec", "pyzmq", "torch")},
    }


def print_hand_over(rows: list[Row]) -> None:
    baseline = next(row for row in rows if row["carrier"] == ObjectCollective.name)["hand_over_ms"]["median"]
    print(f"\n{rows[0]['bytes'] / 1e6:.1f} MB to {rows[0]['readers']} reader(s), median (quartiles), ms")
    print(f"{'':36}{'hand over':>34}{'write (not counted)':>34}{'of gloo':>10}")
    for row in rows:
        share = row["hand_over_ms"]["median"] / baseline
        print(f"{row['carrier']:36}{shown(row['hand_over_ms']):>34}{shown(row['write_ms']):>34}{share:>10.4f}")


def print_reader_costs(rows: list[Row]) -> None:
    print("\nwhat a record costs its reader, median (quartiles), us")
    print(f"{'':26}{'receive, decode, view':>34}{'then touch every page':>40}")
    for row in rows:
        label = f"{row['mapping']}, {row['bytes'] / 1e6:.0f} MB"
        print(f"{label:26}{shown(row['take_us']):>34}{shown(row['touch_every_page_us']):>40}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=31.5, help="features of one item, in 10^6 bytes")
    parser.add_argument("--readers", default="1,2,4,8", help="numbers of reader processes")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each way, after one to warm up")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    shape = (max(PROBE_BYTES, int(options.megabytes * 1e6 / 4)),)
    report: Row = {"environment": environment(), "hand_over": [], "reader": []}
    print("  ".join(f"{name}={value}" for name, value in report["environment"].items()), flush=True)
    for readers in map(int, options.readers.split(",")):
        # Three regions, the producer's own arrays, a pickle in flight, and what the readers unpickle twice over.
        check_memory(shape[0] * 4 * (12 + 3 * readers))
        rows = in_group(lambda readers=readers: hand_over(shape, readers, options.rounds))  # type: ignore[misc]
        report["hand_over"] += rows
        print_hand_over(rows)
        sys.stdout.flush()
    report["reader"] = in_group(lambda: reader_costs([1_000_000, 256_000_000], options.rounds * 5))
    print_reader_costs(report["reader"])
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
