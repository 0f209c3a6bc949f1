"""How many workers, how much arena and how much budget traffic needs. Pure, but for the command `mmplane plan`.

    utilisation = items/s of which none is known * CPU seconds of one / workers          at most UTILISATION
    waiting s   = Sakasegawa's approximation for M/M/c: u^(sqrt(2(c+1))-1) / (c(1-u)) * CPU seconds of an item
    at once     = rate * time (Little), and for the peak what is exceeded once in a thousand: mean + 3 sqrt(mean) + 1

It is checked against a server by `benchmarks/capacity.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from math import ceil, sqrt
from typing import Annotated

import msgspec
from msgspec import Meta

from mmplane.config import BYTES_MAX, COUNT_MAX, JOIN_MAX, SECONDS_MAX
from mmplane.core.parsing import ROOM_BYTES_MAX
from mmplane.parser import Parser
from mmplane.ranges import ranges_of

UTILISATION = 0.7
"""The maximum for workers at the planned traffic. Above it, waiting grows out of proportion."""
BODY_FACTOR = 2
"""What is reserved for a request: its body, and the media in it."""
INLINE_BYTES_MAX = 2**19
"""A longer body is in the front end's region, with room for the rest of it after it has been parsed."""
FRONT_SHARE = 4
"""The front end's region is one of this many parts of the arena."""
HALVES = 2
"""The halves of the budget: one for requests, one for decoded media."""
REGION_BYTES_MIN = 2**20
BUDGET_BYTES_MIN = 2**27
"""Half of it is also what a worker may allocate: libraries need some memory, however small the pictures are."""
RESERVE = 1
"""The workers of a server whose items are made by media machines."""
MACHINE_ITEMS = 3
"""Slots for each worker there: one that is written, one that is sent, and one for what does not fit."""
ROUNDING_BYTES = 2 * 4096
"""Regions are multiples of a page."""


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Requests at the busiest time. Sizes are those of the larger requests, times those of the usual ones."""

    requests_per_s: Annotated[float, Meta(ge=1e-6, le=SECONDS_MAX)]
    items_per_request: Annotated[float, Meta(ge=1e-6, le=SECONDS_MAX)] = 1.0
    new_share: Annotated[float, Meta(ge=0.0, le=1.0)] = 1.0
    """The share of items that are not in the arena already."""
    body_bytes: Annotated[int, Meta(ge=0, le=BYTES_MAX)]
    """The size of a request, including base64."""
    item_bytes: Annotated[int, Meta(ge=0, le=BYTES_MAX)]
    """The size of one item's features: `bytes` in a trace."""
    decoded_bytes: Annotated[int, Meta(ge=0, le=BYTES_MAX)]
    """Memory to decode one item: 6 bytes a pixel of a JPEG, 18 of another picture; 3 of a clip's frames, all together,
    and 16 a sample of a sound."""
    item_s: Annotated[float, Meta(ge=1e-6, le=SECONDS_MAX)]
    """The CPU seconds of a worker for one item: `decode` and `transform` in a trace."""
    held_s: Annotated[float, Meta(ge=0.0, le=SECONDS_MAX)] = 0.1
    """From when an item's features are written until the ranks have made embeddings of them."""
    kept_items: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = 0
    """The number of items that should stay for later requests."""
    machines: Annotated[int, Meta(ge=0, le=JOIN_MAX)] = 0
    """Media machines, which then make all items: the server's one worker is the reserve (docs/cluster.md)."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The settings to start the server with, and why."""

    workers: int
    arena_bytes: int
    budget_bytes: int
    utilisation: float
    """The utilisation of the workers."""
    waiting_s: float
    """The mean time that a new item waits for a worker."""
    requests_at_once: int
    """The peak of requests in the front end, before the ranks have them."""
    slots_at_once: int
    """The peak of slots that cannot be evicted."""
    join_max: int = 0
    """The number of media machines."""
    machine_workers: int = 0
    """The workers of each machine."""
    machine_arena_bytes: int = 0
    """The arena of each machine."""
    network_bytes_per_s: float = 0.0
    """What all machines send to the server."""

    def flags(self) -> list[str]:
        """The flags of `mmplane serve`."""
        named = {"--workers": self.workers, "--arena-bytes": self.arena_bytes, "--budget-bytes": self.budget_bytes}
        return _texts(named | ({"--join-max": self.join_max} if self.join_max else {}))

    def machine_flags(self) -> list[str]:
        """The flags of `mmplane worker` on each media machine."""
        return _texts({"--workers": self.machine_workers, "--arena-bytes": self.machine_arena_bytes})


def plan(traffic: Traffic) -> Plan:
    """The settings for this traffic. Raises ValueError for impossible traffic."""
    if min(traffic.requests_per_s, traffic.items_per_request, traffic.item_s) <= 0:
        raise ValueError("rates and times must be above 0")
    items_per_s = traffic.requests_per_s * traffic.items_per_request
    busy = items_per_s * traffic.new_share * traffic.item_s
    workers = max(1, traffic.machines, ceil(busy / UTILISATION))
    machine_workers = ceil(workers / traffic.machines) if traffic.machines else 0
    workers = machine_workers * traffic.machines or workers
    waiting_s = _waiting_s(busy / workers, workers) * traffic.item_s
    requests = _peak(traffic.requests_per_s * (waiting_s + traffic.item_s * max(1.0, traffic.items_per_request)))
    slots = ceil(_peak(items_per_s * (traffic.item_s + traffic.held_s)))
    each = ceil((slots + traffic.kept_items) / (traffic.machines or workers)) + 1
    region_bytes = max(REGION_BYTES_MIN, each * traffic.item_bytes) + ROUNDING_BYTES
    here = RESERVE if traffic.machines else workers
    regions = here + traffic.machines
    long = traffic.body_bytes > INLINE_BYTES_MAX
    front_bytes = ceil(requests) * (traffic.body_bytes + ROOM_BYTES_MAX) if long else workers * traffic.body_bytes
    arena_bytes = max(FRONT_SHARE * front_bytes, regions * region_bytes * FRONT_SHARE // (FRONT_SHARE - 1))
    machine_region_bytes = max(REGION_BYTES_MIN, MACHINE_ITEMS * traffic.item_bytes) + ROUNDING_BYTES
    request_bytes = ceil(requests) * BODY_FACTOR * traffic.body_bytes
    return Plan(
        workers=here,
        arena_bytes=max(arena_bytes, FRONT_SHARE * (REGION_BYTES_MIN + ROUNDING_BYTES)),
        budget_bytes=max(BUDGET_BYTES_MIN, HALVES * request_bytes, HALVES * here * traffic.decoded_bytes),
        utilisation=busy / workers,
        waiting_s=waiting_s,
        requests_at_once=ceil(requests),
        slots_at_once=slots,
        join_max=traffic.machines,
        machine_workers=machine_workers,
        machine_arena_bytes=machine_workers * machine_region_bytes * FRONT_SHARE // (FRONT_SHARE - 1),
        network_bytes_per_s=items_per_s * traffic.new_share * traffic.item_bytes if traffic.machines else 0.0,
    )


def _texts(flags: dict[str, int]) -> list[str]:
    return [text for flag, value in flags.items() for text in (flag, str(value))]


def _waiting_s(utilisation: float, servers: int) -> float:
    """Mean time in the queue of an M/M/c system, in service times."""
    power: float = utilisation ** (sqrt(2 * (servers + 1)) - 1)
    return power / (servers * (1 - utilisation))


def _peak(mean: float) -> float:
    """The value that a Poisson number with this mean exceeds about once in a thousand times."""
    return mean + 3 * sqrt(mean) + 1


HELP = {
    "requests_per_s": "requests in a second, at the busiest time",
    "items_per_request": "images, clips and sounds in each",
    "new_share": "share of the items that are not in the arena already",
    "body_bytes": "size of a large request, base64 included",
    "item_bytes": "features of one large item: `bytes` in a trace",
    "decoded_bytes": "memory to decode one: 6 bytes for each pixel of a JPEG, 18 of another picture",
    "item_s": "CPU seconds of a worker for one item: `decode` and `transform` in a trace",
    "held_s": "seconds until the ranks have made embeddings of an item's features",
    "kept_items": "items that are to stay for requests to come",
    "machines": "media machines, which then make all items",
}
EXAMPLE = "mmplane plan --requests-per-s 5 --body-bytes 300kB --item-bytes 7.4MB --decoded-bytes 4MB --item-s 0.02"


def options_parser() -> argparse.ArgumentParser:
    """The flags: the fields of `Traffic`."""
    description = "Print the flags of mmplane serve for so much traffic. Sizes are bytes, or have a unit: 300kB, 7MiB."
    parser = Parser(prog="mmplane plan", description=description, example=EXAMPLE)
    groups = {each: parser.add_argument_group(each) for each in ("required", "optional")}
    ranges = ranges_of(Traffic)
    for field in msgspec.structs.fields(Traffic):
        required = field.default is msgspec.NODEFAULT
        groups["required" if required else "optional"].add_argument(
            "--" + field.name.replace("_", "-"),
            type=ranges[field.name],
            required=required,
            default=None if required else field.default,
            metavar="SIZE" if ranges[field.name].bytes else "N",
            help=HELP[field.name],
        )
    return parser


def main(arguments: Sequence[str]) -> int:
    """`mmplane plan`: flags for traffic."""
    found = plan(Traffic(**vars(options_parser().parse_args(arguments))))
    print("mmplane serve " + " ".join(found.flags()))
    print(
        f"workers are busy {found.utilisation:.0%} of the time, a new item waits {1000 * found.waiting_s:.0f} ms for "
        f"one; at the peak {found.requests_at_once} requests are being prepared and {found.slots_at_once} slots held"
    )
    if found.join_max:
        print(f"on each of {found.join_max} media machines: mmplane worker " + " ".join(found.machine_flags()))
        print(f"all machines together send the server {found.network_bytes_per_s * 8 / 1e9:.2f} Gbit/s")
    return 0
