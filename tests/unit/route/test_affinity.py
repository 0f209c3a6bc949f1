"""What HAProxy's own algorithm comes to: hits nearly as by unbounded hashing, waits as by least loaded.

Open arrivals, popularity as Zipf has it, 16 replicas that serve four requests at once, and arenas that hold a quarter
of all pictures together. Times are the simulation's own; nothing here depends on this machine.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from affinity import Ring, full_hash
from mmplane.route.replica import Replica, numbered

REPLICAS, PICTURES, REQUESTS, AT_ONCE = 16, 20_000, 20_000, 4
MISS_S, HIT_S = 0.060, 0.030
LOAD = 0.75
"""At a hit rate of one half."""
RING = Ring({each.name: number for each, number in numbered(Replica(f"10.0.0.{i}", 8000) for i in range(16)).items()})

Policy = Callable[[int, Mapping[str, int]], str]


def by_hash(picture: int, _served: Mapping[str, int]) -> str:
    return RING.place_hash(full_hash(picture))


def bounded(picture: int, served: Mapping[str, int]) -> str:
    return RING.place_hash(full_hash(picture), served)


def least_loaded(picture: int, served: Mapping[str, int]) -> str:
    return min(served, key=lambda name: (served[name], full_hash(picture + hash(served[name]))))


@dataclass
class Serving:
    """One replica: who runs until when, and the pictures that it holds."""

    free_s: list[float] = field(default_factory=lambda: [0.0] * AT_ONCE)
    held: OrderedDict[int, None] = field(default_factory=OrderedDict)

    def take(self, picture: int, now_s: float, pace: float) -> tuple[bool, float]:
        """Whether it was a hit, and when the answer is there."""
        hit = picture in self.held
        self.held[picture] = None
        self.held.move_to_end(picture)
        if len(self.held) > PICTURES // REPLICAS // 4:
            self.held.popitem(last=False)
        end_s = max(now_s, heapq.heappop(self.free_s)) + (HIT_S if hit else MISS_S) * pace
        heapq.heappush(self.free_s, end_s)
        return hit, end_s


def simulated(policy: Policy) -> tuple[float, float]:
    """Hit rate, and the 99th percentile of how long an answer takes, without the first fifth."""
    random = np.random.default_rng(5)
    popularity = 1 / np.arange(1, PICTURES + 1)
    pictures = random.choice(PICTURES, REQUESTS, p=popularity / popularity.sum()).tolist()
    between_s = (MISS_S + HIT_S) / 2 / (LOAD * REPLICAS * AT_ONCE)
    arrivals_s = np.cumsum(random.exponential(between_s, REQUESTS)).tolist()
    paces = random.uniform(0.8, 1.2, REQUESTS).tolist()
    names = list(RING.slots(0))
    replicas, served = {name: Serving() for name in names}, dict.fromkeys(names, 0)
    running: list[tuple[float, str]] = []
    hits, latencies_s = 0, []
    for picture, now_s, pace in zip(pictures, arrivals_s, paces, strict=True):
        while running and running[0][0] <= now_s:
            served[heapq.heappop(running)[1]] -= 1
        name = policy(picture, served)
        served[name] += 1
        hit, end_s = replicas[name].take(picture, now_s, pace)
        hits += hit
        heapq.heappush(running, (end_s, name))
        latencies_s.append(end_s - now_s)
    return hits / REQUESTS, float(np.percentile(latencies_s[REQUESTS // 5 :], 99))


def test_bounded_load_hits_nearly_as_often_as_hashing_and_waits_no_longer_than_least_loaded() -> None:
    (hash_hits, hash_p99_s), (hits, p99_s), (least_hits, least_p99_s) = map(simulated, (by_hash, bounded, least_loaded))
    assert hits >= 0.85 * hash_hits
    assert p99_s <= 1.1 * least_p99_s
    assert least_hits < 0.7 * hash_hits, "the trace tells policies apart"
    assert hash_p99_s > 5 * least_p99_s, "the trace has hot pictures"


@pytest.mark.parametrize("in_flight", [0, 1, 7, 48, 200])
def test_there_is_always_room_for_one_more(in_flight: int) -> None:
    slots = RING.slots(in_flight)
    assert sum(slots.values()) > in_flight
    assert max(slots.values()) <= max(1, -(-in_flight * 150 // 100 // 16) + 1)


def test_the_ring_is_divided_evenly() -> None:
    shares = dict.fromkeys(RING.slots(0), 0)
    for number in range(16_000):
        shares[RING.place_hash(full_hash(number))] += 1
    assert min(shares.values()) > 750
    assert max(shares.values()) < 1250


def test_a_replica_more_moves_its_share_alone() -> None:
    numbers = numbered(Replica(f"10.0.0.{i}", 8000) for i in range(5))
    names = {each.name: number for each, number in numbers.items()}
    fewer, more = Ring(dict(list(names.items())[:4])), Ring(names)
    new = list(names)[4]
    moved = [
        (before, after)
        for hashed in map(full_hash, range(4000))
        if (before := fewer.place_hash(hashed)) != (after := more.place_hash(hashed))
    ]
    assert {after for _, after in moved} == {new}
    assert 600 < len(moved) < 1000
