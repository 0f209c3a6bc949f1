"""What a simulated rank gives its deliveries: no thread, no socket, no clock, but all orders that threads could take.

A collective is a tape: the leader writes the next entry, each follower reads the next one. It carries no name, as in
reality: who enters another one than the leader takes another request's payload, and the runner sees features that are
not its own. Who enters one too few is left waiting, and who enters one too many is found out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import Any

import torch

from mmplane.core.errors import unavailable
from mmplane.core.faults import Fault
from mmplane.core.records import Enclosed, Item, Layout, Recipe, Slot, Tensor
from mmplane.delivery.attempt import attempt
from mmplane.delivery.faults import strike
from mmplane.delivery.lane import Job, Lane
from mmplane.delivery.parcels import Parcels
from mmplane.delivery.ports import Broadcast
from mmplane.media.materialise import Made
from mmplane.ranks.plan.wake import Wake


class Violation(AssertionError):
    """A promise was broken."""


def check(promise: object, what: str, *about: object) -> None:
    """What it is about is put into words only when it is needed."""
    if not promise:
        raise Violation(" ".join(map(str, (what, *about))))


# Media: a content key is also the encoded media, and its features follow from it.


@lru_cache(maxsize=1000)
def features_of(key: bytes) -> bytes:
    return bytes(byte ^ 0x55 for byte in key) * (1 + key[-1] % 3)


def tensors_of_key(key: bytes) -> tuple[Tensor, ...]:
    return (Tensor("x", "uint8", (len(features_of(key)),), 0),)


def enclosed(key: bytes, offset_bytes: int, *, media: bool) -> Enclosed:
    length_bytes = len(key if media else features_of(key))
    layout = Layout(tensors_of_key(key), (), len(features_of(key)))
    return Enclosed(key, Recipe("image", layout), offset_bytes, length_bytes, media)


def in_arena(key: bytes) -> Item:
    return Item(key, "image", Slot(0, 0, len(features_of(key)), 0), tensors_of_key(key))


def view(item: Item) -> dict[str, torch.Tensor]:
    return {"x": torch.frombuffer(bytearray(features_of(item.content_key)), dtype=torch.uint8)}


def materialise(media: memoryview | bytes, recipe: Recipe, out: memoryview) -> Made:
    out[:] = features_of(bytes(media))
    return Made(0.0, 0.0, len(out))


# Collectives, the lane, the pool, parcels.


@dataclass
class Tape:
    """One process group of a simulated rank group: what the leader has broadcast in it."""

    entries: list[tuple[list[object], list[Fault | None]]] = field(default_factory=list)


class TapeBroadcast(Broadcast):
    def __init__(self, tape: Tape, rank: int, tp: int) -> None:
        self.tape = tape
        self.rank = rank
        self.tp = tp
        self.entered = 0

    def __call__(self, payloads: Sequence[object], faults: Sequence[Fault | None]) -> list[object]:
        if self.tp == 1:
            return list(payloads)
        struck = [attempt(lambda fault=fault: strike(fault, "in_collective", self.rank)) for fault in faults]
        if self.rank == 0:
            carried = [failure or payload for failure, payload in zip(struck, payloads, strict=True)]
            self.tape.entries.append((carried, list(faults)))
            self.entered += 1
            return carried
        check(self.entered < len(self.tape.entries), "a rank hangs in a collective that the leader does not enter")
        carried, expected = self.tape.entries[self.entered]
        self.entered += 1
        check(list(faults) == expected, f"rank {self.rank} is in another collective than the leader")
        return [failure or payload for failure, payload in zip(struck, carried, strict=True)]

    @property
    def possible(self) -> bool:
        """Whether a collective could be entered now and come to an end."""
        return self.rank == 0 or self.tp == 1 or self.entered < len(self.tape.entries)

    @property
    def level(self) -> bool:
        """Whether this rank has entered all that the leader has."""
        return self.tp == 1 or self.entered == len(self.tape.entries)


class TurnLane(Lane):
    """Jobs run one after the other, when the simulation says."""

    def __init__(self, broadcast: TapeBroadcast, *, waiting_max: int) -> None:
        super().__init__(waiting_max=waiting_max)
        self.broadcast = broadcast
        self.waiting_max = waiting_max
        self.queue: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        check(len(self.queue) < self.waiting_max, "more waits in the lane than may")
        self.queue.append(job)

    def turn(self) -> None:
        """The oldest job, if it could end: a follower's collective waits for the leader."""
        if self.queue and self.broadcast.possible:
            self.queue.popleft()()


class TurnPool(Executor):
    """Jobs run in any order, when the simulation says, or when somebody waits for one: then that may take too long."""

    def __init__(self, random: Random, slow: Callable[[], bool]) -> None:
        self.random = random
        self.slow = slow
        self.jobs: list[PoolFuture] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> PoolFuture:
        future = PoolFuture(self, lambda: fn(*args, **kwargs))
        self.jobs.append(future)
        return future

    def turn(self) -> None:
        if self.jobs:
            self.run(self.random.choice(self.jobs))

    def run(self, future: PoolFuture) -> None:
        self.jobs.remove(future)
        if future.set_running_or_notify_cancel():
            future.set_result(future.work())


class PoolFuture(Future[Any]):
    def __init__(self, pool: TurnPool, work: Callable[[], Any]) -> None:
        super().__init__()
        self.pool = pool
        self.work = work

    def result(self, timeout: float | None = None) -> Any:
        if not self.done():
            if self.pool.slow():
                raise TimeoutError
            self.pool.run(self)
        return super().result(0)


class LateParcels(Parcels):
    """Parcels, and the stream on which they come; whoever waits for one gets it, or has waited too long."""

    def __init__(self, slow: Callable[[], bool]) -> None:
        super().__init__()
        self.slow = slow
        self.stream: deque[tuple[int, bytes]] = deque()

    def receive(self) -> None:
        request_id, content = self.stream.popleft()
        self.put(request_id, bytearray(content))

    def get(self, request_id: int, limit_s: float) -> memoryview:
        while request_id not in self._parcels:
            check(any(request_id == coming for coming, _ in self.stream), "a rank waits for a parcel that never comes")
            if self.slow():
                raise unavailable("the request's media did not reach a rank")
            self.receive()
        return super().get(request_id, 0.0)

    @property
    def empty(self) -> bool:
        return not (self.stream or self._parcels or self._dropped)


class NoWake(Wake):
    """The simulation looks at everything in every turn."""

    def __init__(self) -> None:
        self.set_count = 0

    def set(self) -> None:
        self.set_count += 1
