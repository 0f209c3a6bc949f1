"""Measures the cost of handing one item's features to every reader, by carrier, in one run.

Handing over starts when the producer has the features and ends when every reader has reported that it can read them (it
has touched the first and the last element). Producing them is not counted and is shown separately, because in place it
is the transform's own last write. The carriers take turns within each round, in a rotating order, so that noise affects
all of them alike. After each turn every reader returns 64 bytes from a random offset, which are compared.
"""

from __future__ import annotations

import gc
import os
import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median, quantiles

import numpy as np

from mmplane.arena.segment import check_memory
from mmplane.bench.micro.carriers import CARRIERS, Carrier, Features
from mmplane.bench.micro.team import Row, Team, in_group

PROBE_BYTES = 64
ROUNDS = 9


def peers(
    features_bytes: int,
    readers: Sequence[int],
    *,
    rounds: int = ROUNDS,
    warm_up: int = 1,
    carriers: Sequence[type[Carrier]] = CARRIERS,
    tick: Callable[[], None],
) -> list[Row]:
    """Measure every carrier with each number of readers: one row each. Raises MemoryError if memory is short."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    shape = (max(PROBE_BYTES, features_bytes // 4),)
    rows = []
    for count in readers:
        # Three regions, the producer's own arrays, a pickle in flight, and two unpickled copies in the readers.
        check_memory(shape[0] * 4 * (12 + 3 * count))
        rows += in_group(lambda count=count: hand_over(shape, count, (warm_up, rounds), carriers))  # type: ignore[misc]
        tick()
    return rows


@contextmanager
def opened(carriers: list[Carrier], rank: int) -> Iterator[None]:
    """This process's end of each carrier."""
    with ExitStack() as stack:
        for carrier in carriers:
            carrier.open(rank)
            stack.callback(carrier.close)
        yield


def read_turns(carriers: list[Carrier], rank: int, control: socket.socket) -> None:
    """A reader: for each turn, wait, receive, answer, show a probe, release."""
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
    """Hand over once with one carrier: (write, hand over) in milliseconds."""
    started = time.perf_counter()
    carrier.write(base, addend)
    written = time.perf_counter()
    team.ask(str(number).encode())
    ready = time.perf_counter()
    carrier.send(team)
    team.gather()
    done = time.perf_counter()
    start = random.randrange(base.nbytes - PROBE_BYTES) // 4 * 4  # noqa: S311 - where to look, not a secret
    expected = (base.reshape(-1)[start // 4 : (start + PROBE_BYTES) // 4] + np.float32(addend)).tobytes()
    if set(team.ask(str(start).encode())) != {expected}:
        raise RuntimeError(f"{carrier.name}: a reader received different bytes")
    team.ask(b"let go")
    carrier.sent()
    return (written - started) * 1e3, (done - ready) * 1e3


def hand_over(
    shape: tuple[int, ...], readers: int, rounds: tuple[int, int], kinds: Sequence[type[Carrier]] = CARRIERS
) -> list[Row]:
    """Run all carriers with one number of readers, `rounds` to warm up and to measure; runs in the producer."""
    carriers = [carrier(shape, readers) for carrier in kinds]
    team = Team(readers, lambda rank, control: read_turns(carriers, rank, control))
    base: Features = np.random.default_rng(1).random(shape, np.float32)
    times: dict[str, list[tuple[float, float]]] = {carrier.name: [] for carrier in carriers}
    gc.disable()
    with opened(carriers, 0):
        team.gather()
        for turn in range(sum(rounds)):
            for index in range(len(carriers)):
                number = (index + turn) % len(carriers)
                taken = take_turn(carriers[number], number, team, base, turn * len(carriers) + number)
                if turn >= rounds[0]:
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


def spread(values: list[float]) -> dict[str, float]:
    """Median, quartiles and extremes."""
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": median(values), "p25": low, "p75": high, "min": min(values), "max": max(values)}
