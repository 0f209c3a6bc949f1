"""What it costs to make room in a full region, and how many hits are lost because a slot is one run of bytes.

    python benchmarks/making_room.py [--requests N]

Time: a region full of items of 75 KB in random order of use gets slots of 18.8 MB (a picture of 1120 x 700);
processor time of `Arena.reserve` alone, for several numbers of items. `fragments` is the same region with items of 40
to 110 KB, reused until it has thousands of free runs.
Hits: a Zipf trace of items of mixed sizes through one region, against strict LRU by bytes: a cache of the same size
that evicts the least recently used item wherever it lies and never needs a run of free bytes.

Declared bias: pure bookkeeping, nothing is written, so caches of the processor hold more of it than in a server; strict
LRU knows no fragments and no alignment; nothing is leased while room is made; the trace has no bursts.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections import OrderedDict
from statistics import median

from mmplane.arena.arena import Arena
from mmplane.arena.leases import Process
from mmplane.core.records import Item

WORKER = Process("worker", 0, 1)
SMALL_BYTES = 75_000
LARGE_BYTES = 18_800_000
ROUNDS = 9
SIZES_BYTES = {20_000: 0.15, SMALL_BYTES: 0.45, 400_000: 0.2, 2_400_000: 0.15, LARGE_BYTES: 0.05}
"""Of items of the trace, with their shares."""


def publish(arena: Arena, key: bytes, length_bytes: int) -> None:
    slot = arena.reserve(0, length_bytes, WORKER)
    arena.commit(slot, WORKER)
    arena.publish(key, Item(key, "image", slot, ()))


def keys(count: int) -> list[bytes]:
    return [number.to_bytes(8, "little") for number in range(count)]


def full(items: int, chance: random.Random) -> Arena:
    """Items of one length fill it to the last byte; they are used in random order."""
    arena = Arena([items * (-(-SMALL_BYTES // 64) * 64)])
    names = keys(items)
    for key in names:
        publish(arena, key, SMALL_BYTES)
    chance.shuffle(names)
    for key in names:
        arena.lookup(key)
    return arena


def fragments(items: int, chance: random.Random) -> Arena:
    """The same with lengths that fit no run exactly, after each item has been replaced once."""
    arena = Arena([items * (-(-SMALL_BYTES // 64) * 64)])
    for key in keys(2 * items):
        publish(arena, key, chance.randrange(40_000, 110_000))
    return arena


def times_ms(arena: Arena) -> list[float]:
    took = []
    for _ in range(ROUNDS):
        began_s = time.thread_time()
        arena.reserve(0, LARGE_BYTES, WORKER)
        took.append((time.thread_time() - began_s) * 1e3)
    return took


def trace(items: int, requests: int, exponent: float, chance: random.Random) -> list[tuple[bytes, int]]:
    sizes = chance.choices(list(SIZES_BYTES), weights=list(SIZES_BYTES.values()), k=items)
    weights = [1 / rank**exponent for rank in range(1, items + 1)]
    catalogue = list(zip(keys(items), sizes, strict=True))
    return chance.choices(catalogue, cum_weights=list(itertools.accumulate(weights)), k=requests)


def hits_of_arena(requests: list[tuple[bytes, int]], region_bytes: int) -> float:
    arena = Arena([region_bytes])
    for key, length_bytes in requests:
        if arena.lookup(key) is None:
            publish(arena, key, length_bytes)
    return arena.statistics().hits / len(requests)


def hits_of_strict_lru(requests: list[tuple[bytes, int]], region_bytes: int) -> float:
    held: OrderedDict[bytes, int] = OrderedDict()
    free_bytes, hits = region_bytes, 0
    for key, length_bytes in requests:
        if key in held:
            hits += 1
            held.move_to_end(key)
            continue
        while free_bytes < length_bytes:
            free_bytes += held.popitem(last=False)[1]
        held[key] = length_bytes
        free_bytes -= length_bytes
    return hits / len(requests)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    options = parser.parse_args()
    for make in (full, fragments):
        for items in (5_000, 57_000, 114_000):
            arena = make(items, random.Random(items))
            runs, there = arena.statistics().total.free_runs, arena.statistics().items
            took = times_ms(arena)
            print(
                f"{make.__name__}, {there} items, {runs} free runs: median {median(took):.2f} ms, "
                f"longest {max(took):.2f} ms; {(there - arena.statistics().items) / ROUNDS:.0f} evicted for each"
            )
    for region_bytes in (2**29, 2**31):
        for exponent in (0.7, 0.9, 1.1):
            requests = trace(20_000, options.requests, exponent, random.Random(1))
            ours, strict = hits_of_arena(requests, region_bytes), hits_of_strict_lru(requests, region_bytes)
            print(
                f"Zipf {exponent}, {region_bytes >> 20} MiB: hits {ours:.1%}, strict LRU {strict:.1%}, "
                f"lost {strict - ours:.1%}"
            )


if __name__ == "__main__":
    main()
