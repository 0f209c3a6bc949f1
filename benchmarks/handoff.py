"""What it costs to hand one item's features to every rank, by carrier, in one run, and what a record costs its reader.

    python benchmarks/handoff.py --megabytes 31.5 --readers 1,2,4,8 --rounds 9 --json handoff.json

What is measured, and how the others get their best case, is written in `mmplane.bench.micro.handover` and
`mmplane.bench.micro.carriers`; `mmplane bench --peer` runs the same beside the deliveries.
"""

from __future__ import annotations

import argparse
import json
import mmap
import random
import select
import socket
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

from mmplane.arena.arena import Arena
from mmplane.arena.segment import RegionMapping, check_memory, create_region, reopen_read_only
from mmplane.bench.micro.carriers import PRODUCER, ObjectCollective, features_in, item_decoder, item_of, touch_pages
from mmplane.bench.micro.handover import PROBE_BYTES, peers, spread
from mmplane.bench.micro.team import DEADLINE_S, Row, Team, in_group
from mmplane.bench.run.environment import environment
from mmplane.core.records import MESSAGE_BYTES_MAX, Slot


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
    populated = RegionMapping(fd, region_bytes, writable=False)
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


def shown(figures: dict[str, float]) -> str:
    return f"{figures['median']:10.3f} ({figures['p25']:.3f} to {figures['p75']:.3f})"


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
    report: Row = {"environment": environment(sys.argv[1:]), "hand_over": [], "reader": []}
    for readers in map(int, options.readers.split(",")):
        rows = peers(int(options.megabytes * 1e6), [readers], rounds=options.rounds, tick=lambda: None)
        report["hand_over"] += rows
        print_hand_over(rows)
        sys.stdout.flush()
    report["reader"] = in_group(lambda: reader_costs([1_000_000, 256_000_000], options.rounds * 5))
    print_reader_costs(report["reader"])
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
