"""The object collective of the `leader` deliveries beside torch's own, on the object that `leader` sends.

    python benchmarks/collective.py --tp 2,4 --megabytes 9.4,90 --rounds 21

Both take turns, and swap who is first, in one group of real gloo ranks; a barrier starts and ends each turn, and the
clock is the leader's. A ratio is the median of the rounds' own ratios. Ends with 1 when one is further than 5 % from 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from statistics import median
from typing import Any

import torch
import torch.distributed as dist

from mmplane.core.plan import Work
from mmplane.delivery.delivery import Delivered
from mmplane.delivery.object_collective import ObjectBroadcast
from mmplane.process.death import die_with_parent

TOLERANCE = 0.05
WARM_UP = 2
LIMIT = timedelta(seconds=120)

Call = Callable[[object], object]


def calls(group: Any, rank: int) -> dict[str, Call]:
    """Ours and torch's, for one payload."""
    broadcast = ObjectBroadcast(group, rank)

    def plain(payload: object) -> object:
        payloads = [payload]
        dist.broadcast_object_list(payloads, src=0, group=group, device=torch.device("cpu"))
        return payloads[0]

    return {"ours": lambda payload: broadcast([payload], [None])[0], "plain": plain}


def timed(group: Any, call: Call, payload: object) -> tuple[float, float]:
    """Milliseconds of wall time, and of this rank's CPU, until every rank has the object."""
    dist.barrier(group=group)
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    received = call(payload)
    dist.barrier(group=group)
    took = (time.perf_counter() - began_s) * 1000, (time.process_time() - began_cpu_s) * 1000
    assert isinstance(received, Delivered)
    return took


def measure(group: Any, rank: int, size_bytes: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """What each round took, by name, as this rank saw it."""
    features = {"pixel_values": torch.rand(size_bytes // 4), "image_grid_thw": torch.tensor([[1, 36, 50]])}
    payload = Delivered((features,), work=Work(1, 100.0)) if rank == 0 else None
    both = calls(group, rank)
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in both}
    for number in range(WARM_UP + rounds):
        for name in sorted(both, reverse=number % 2 == 1):
            each = timed(group, both[name], payload)
            if number >= WARM_UP:
                took[name].append(each)
    return took


def judged(tp: int, size_bytes: int, took: dict[str, list[tuple[float, float]]]) -> bool:
    """Print one line of the leader's; whether its ratio is near enough."""
    wall = {name: [ms for ms, _ in rounds] for name, rounds in took.items()}
    cpu = {name: sum(ms for _, ms in rounds) for name, rounds in took.items()}
    ratio = median(ours / plain for ours, plain in zip(wall["ours"], wall["plain"], strict=True))
    print(
        f"tp {tp}, {size_bytes / 1e6:g} MB: ours {median(wall['ours']):.1f} ms, "
        f"torch's own {median(wall['plain']):.1f} ms, ratio {ratio:.3f}, leader's CPU {cpu['ours'] / cpu['plain']:.3f}",
        flush=True,
    )
    return abs(ratio - 1) <= TOLERANCE


def run(rank: int, tp: int, store: str, sizes_bytes: list[int], rounds: int) -> bool:
    """One rank's life; whether every ratio is near enough."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, tp), rank=rank, world_size=tp, timeout=LIMIT)
    group = dist.new_group(backend="gloo", timeout=LIMIT)
    near = True
    for size_bytes in sizes_bytes:
        took = measure(group, rank, size_bytes, rounds)
        if rank == 0:
            near &= judged(tp, size_bytes, took)
    dist.barrier(group=group)
    return near


def group_of(tp: int, sizes_bytes: list[int], rounds: int) -> bool:
    """Fork the ranks; whether all of them ended well."""
    parent = os.getpid()
    with tempfile.NamedTemporaryFile() as store:
        children = []
        for rank in range(tp):
            pid = os.fork()
            if not pid:
                die_with_parent(parent)
                os._exit(0 if run(rank, tp, store.name, sizes_bytes, rounds) else 1)
            children.append(pid)
        statuses = [os.waitpid(pid, 0)[1] for pid in children]
        return not any(statuses)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tp", default="2,4", help="ranks, several with commas")
    parser.add_argument("--megabytes", default="9.4,90", help="features of one request, several with commas")
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    sizes_bytes = [int(float(each) * 1e6) // 4 * 4 for each in options.megabytes.split(",")]
    near = [group_of(int(tp), sizes_bytes, options.rounds) for tp in options.tp.split(",")]
    return 0 if all(near) else 1


if __name__ == "__main__":
    sys.exit(main())
