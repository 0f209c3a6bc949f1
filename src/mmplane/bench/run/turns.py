"""One turn: a delivery's share of a repetition, sent by the load generator and measured from outside.

Bodies are created and written before the clock starts. The server's own statistics are read before and after.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec

from mmplane.bench.inputs.making import Made
from mmplane.bench.inputs.workloads import Request, render
from mmplane.bench.run import carried, meters
from mmplane.bench.run.figures import Turn
from mmplane.bench.run.generator import Job, Results, Sample, Shot
from mmplane.bench.run.server import Server
from mmplane.core.histogram import Distribution, merged
from mmplane.core.plan import EVERY_RANK
from mmplane.process.death import die_with_parent

TIMEOUT_S = 600.0
SETTLE_SECONDS = 1.3
"""The ranks report twice a second, and an idle loop wakes up at least that often."""
SETTLE_LIMIT_S = 15.0

NOTHING: dict[str, Any] = {"ranks": {}}
"""Statistics before the first turn."""

Tick = Callable[[], None]
DigestRank = Callable[[int], int]
"""Whose digests a request asks for, by its number."""


class TurnPlan(msgspec.Struct, frozen=True):
    """The requests of a turn: they are sent `cycles` times with new stamps. `arrivals_s` makes it an open loop."""

    requests: Sequence[Request]
    background: Sequence[Request]
    concurrency: int
    arrivals_s: Sequence[float] | None = None
    cycles: int = 1


def send(server: Server, plan: TurnPlan, items: list[Made], note: str, tick: Tick) -> Results:
    """Send the plan and measure only what the load generator measures. Every rank digests every item."""
    with tempfile.TemporaryDirectory(prefix="mmplane-bench-") as folder:
        return generate(_spool(server, plan, items, note, Path(folder), every_rank), Path(folder) / "job", tick)


def take(server: Server, plan: TurnPlan, items: list[Made], note: str, tick: Tick) -> Turn:
    """Send the plan and measure. The server must have been switched and be warm. The ranks take turns with digests."""
    one_rank = partial(in_turn, tp=server.tp)
    with tempfile.TemporaryDirectory(prefix="mmplane-bench-") as folder:
        job = _spool(server, plan, items, note, Path(folder), one_rank)
        before = settled(server)
        processes = server.processes()
        cpu_before = meters.cpu(server)
        results = generate(job, Path(folder) / "job", tick)
        spent = meters.cpu(server).since(cpu_before)
    after = settled(server)
    lost = () if server.processes() == processes else ("a process was replaced in the middle of the turn",)
    since = loops(NOTHING if lost else before, after)
    return Turn(
        samples=results.samples,
        wall_s=results.wall_s,
        cpu_s=spent.by_role(),
        cpu_s_by_process=spent.processes,
        busiest_thread=spent.busiest(),
        verify_cpu_s=since["verify_cpu_s"],
        materialisations=_materialisations(after) - _materialisations(before),
        stalls=since["stalls"],
        broadcasts=since["broadcasts"],
        hashes=carried.hashes(before, after),
        collectives=carried.collectives(NOTHING if lost else before, after),
        load_cpu_s=results.cpu_s,
        load_lag_ms_max=results.lag_ms_max,
        wrong=lost + tuple(wrong(results.samples, plan.requests, items, server.tp, one_rank)),
    )


def every_rank(_: int) -> int:
    """Statistics of all deliveries."""
    return EVERY_RANK


def in_turn(index: int, tp: int) -> int:
    """One rank in turn: on all ranks, hashing would cost more than what is measured."""
    return index % tp


def wrong(
    samples: Sequence[Sample],
    requests: Sequence[Request],
    items: list[Made],
    tp: int,
    digest_rank: DigestRank = every_rank,
) -> list[str]:
    """Return errors found in the digests: an item's features are wrong, mixed up or missing on a rank."""
    found = []
    for sample in samples:
        if sample.background or sample.code is not None or sample.trace is None:
            continue
        shown = requests[sample.index % len(requests)].items
        traced = sample.trace["items"]
        if len(traced) != len(shown):
            found.append(f"request {sample.index}: {len(traced)} items came back of {len(shown)}")
            continue
        rank = digest_rank(sample.index)
        ranks = range(tp) if rank == EVERY_RANK else [rank]
        for index, item in zip(shown, traced, strict=True):
            digests = item["digests"]
            if sorted(digests) != sorted(map(str, ranks)):
                found.append(f"request {sample.index}: no digest of some rank")
            elif len(set(digests.values())) != 1:
                found.append(f"request {sample.index}: the ranks have different features for one item")
            elif items[index].digest not in (None, *digests.values()):
                found.append(f"request {sample.index}: the ranks' features differ from those of the item that was sent")
    return found


def generate(job: Job, path: Path, tick: Tick) -> Results:
    """Run the load generator on a job. Raises RuntimeError if it ends without results."""
    path.write_bytes(msgspec.msgpack.encode(job))
    command = [sys.executable, "-m", "mmplane.bench.run.generator", str(path)]
    with_us = partial(die_with_parent, os.getpid())
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=with_us) as process:
        assert process.stdout is not None
        for _ in process.stdout:
            tick()
    if process.returncode != 0:
        raise RuntimeError("the load generator failed; its error is above")
    return msgspec.msgpack.decode(Path(job.results).read_bytes(), type=Results)


def settled(server: Server) -> dict[str, Any]:
    """Return the server's statistics once nothing is in flight and the ranks' reports have stopped changing."""
    deadline_s = time.monotonic() + SETTLE_LIMIT_S
    last: tuple[Any, float] = (None, time.monotonic())
    while True:
        now_s = time.monotonic()
        try:
            statistics = server.statistics()
        except httpx.HTTPError:  # the front end is being replaced
            if now_s >= deadline_s:
                raise
            time.sleep(0.1)
            continue
        state = (statistics["ranks"].get("loops"), statistics["requests"]["in_flight"])
        if state != last[0]:
            last = (state, now_s)
        if (state[1] == 0 and now_s - last[1] >= SETTLE_SECONDS) or now_s >= deadline_s:
            return statistics
        time.sleep(0.1)


def _spool(server: Server, plan: TurnPlan, items: list[Made], note: str, folder: Path, digest_rank: DigestRank) -> Job:
    """Write the bodies, and return where each of them is."""
    media = [item.media for item in items]
    shots = []
    offset = 0
    host, port = server.address
    with open(folder / "bodies", "wb") as file:
        cycled = [(request, f"{note}/{cycle}") for cycle in range(plan.cycles) for request in plan.requests]
        streams = [(request, note) for request in plan.background]
        for index, (request, own_note) in enumerate((*cycled, *streams)):
            content = render(request, media, own_note.encode(), digest_rank(index))
            head = (
                f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(content)}\r\n\r\n"
            ).encode()
            file.write(head)
            file.write(content)
            at_s = plan.arrivals_s[index] if plan.arrivals_s and index < len(cycled) else None
            shots.append(Shot(index, offset, len(head) + len(content), at_s))
            offset += len(head) + len(content)
    count = len(cycled)
    return Job(
        host=host,
        port=port,
        bodies=str(folder / "bodies"),
        results=str(folder / "results"),
        shots=tuple(shots[:count]),
        background=tuple(shots[count:]),
        concurrency=plan.concurrency,
        timeout_s=TIMEOUT_S,
    )


def _materialisations(statistics: dict[str, Any]) -> int:
    """Sum over all deliveries and processes, since the server started."""
    return sum(tally["materialisations"] for tally in statistics["delivery"]["by_name"].values())


def loops(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What the ranks' loops did in between, summed over all ranks."""
    earlier = {loop["rank"]: loop for loop in before["ranks"].get("loops", ())}
    later = after["ranks"].get("loops", ())
    names = ("stalls", "broadcasts")
    found: dict[str, Any] = {
        name: merged(_distribution(loop, name).since(_distribution(earlier.get(loop["rank"]), name)) for loop in later)
        for name in names
    }
    verify_s = [loop["verify_cpu_s"] - earlier.get(loop["rank"], {}).get("verify_cpu_s", 0.0) for loop in later]
    return found | {"verify_cpu_s": sum(verify_s)}


def _distribution(loop: dict[str, Any] | None, name: str) -> Distribution:
    if loop is None:
        return Distribution()
    counts = tuple((bucket, count) for bucket, count in loop[name]["counts"])
    return Distribution(counts, loop[name]["total_ms"])
