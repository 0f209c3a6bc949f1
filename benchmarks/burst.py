"""More pictures at once than there is room for: what it costs, who is told to come again, what is left (hazard R8).

    python benchmarks/burst.py [--requests 200] [--pictures 28] [--budget-gib 2] [--json FILE]

All requests are sent at once, each with 28 photographs of 1280x960 that no other request has, some 15 MB, to be seen at
low detail: the built-in model's context holds no more. Every fifth client goes away: some in the middle of the body,
some after it. The budget is 2 GiB, and so is the limit of a control group that the server is moved into where one can
be made; the arena was reserved before and is not in it. Wanted: served or 503 with Retry-After and nothing else, memory
of all processes beyond idle below the budget, and afterwards nothing reserved, leased or in flight.

Bias: the clients take cores and memory of the same machine, which makes the server slower and so refuse more.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmplane.bench.inputs.sources import Source, photograph
from mmplane.bench.inputs.stamps import stamped
from mmplane.bench.run.environment import environment
from mmplane.bench.run.server import Server, serving

sys.path.append(str(Path(__file__).parent))

from accounts import Group, watched

SIZE = (1280, 960)
START = b"\xff\xd8"
"""Of a JPEG."""
VANISHES_EVERY = 5
SETTLE_LIMIT_S = 120.0


class Bodies:
    """Requests with photographs of their own: a note in each file makes it another. The rest of the bytes is shared."""

    def __init__(self, pictures: int) -> None:
        files = [photograph(Source("image", number, *SIZE)) for number in range(pictures)]
        assert all(file.startswith(START) for file in files)
        self._rests = [base64.b64encode(file[len(START) :]) for file in files]

    def pieces(self, request: int) -> list[bytes]:
        """One request's body."""
        noted = stamped(START, f"{request:09}".encode())
        assert len(noted) % 3 == 0, "so that what follows is the same base64 whatever the note"
        start = b'{"type":"image_url","image_url":{"detail":"low","url":"data:image/jpeg;base64,' + base64.b64encode(
            noted
        )
        body = [b'{"model":"tiny","max_tokens":1,"messages":[{"role":"user","content":[']
        for number, rest in enumerate(self._rests):
            body += [b"," + start if number else start, rest, b'"}}']
        return [*body, b"]}]}"]


def send(server: Server, pieces: list[bytes], kept: float | None) -> tuple[str, bool]:
    """How it went, and whether the server said when to come again. `kept`: send this part of it and go."""
    connection = http.client.HTTPConnection(*server.address, timeout=300)
    try:
        connection.putrequest("POST", "/v1/chat/completions")
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", str(sum(map(len, pieces))))
        connection.endheaders()
        with suppress(BrokenPipeError, ConnectionResetError):  # refused by its length: the answer is there to be read
            for piece in pieces if kept is None else pieces[: int(len(pieces) * kept)]:
                connection.send(piece)
        if kept is not None:
            return "went away", False
        answer = connection.getresponse()
        answer.read()
        return str(answer.status), int(answer.headers.get("retry-after", 0)) > 0
    except OSError as error:
        return type(error).__name__, False
    finally:
        connection.close()


def burst(server: Server, requests: int, pictures: int) -> Counter[tuple[str, bool]]:
    """All at once."""
    bodies = Bodies(pictures)

    def one(number: int) -> tuple[str, bool]:
        goes = number % VANISHES_EVERY == VANISHES_EVERY - 1
        return send(server, bodies.pieces(number), (0.3, 0.9, 1.0)[number % 3] if goes else None)

    with ThreadPoolExecutor(requests) as threads:
        return Counter(threads.map(one, range(requests)))


def left(server: Server) -> dict[str, Any]:
    """What is still held, once nothing is in flight or the limit has passed."""
    deadline_s = time.monotonic() + SETTLE_LIMIT_S
    while True:
        now = server.statistics()
        held = {
            "in_flight": now["requests"]["in_flight"],
            "reserved_bytes": now["budget"]["reserved_bytes"],
            "waiting": now["budget"]["waiting"],
            "leases": now["arena"]["leases"],
        }
        if not any(held.values()) or time.monotonic() > deadline_s:
            return held
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=28)
    parser.add_argument("--budget-gib", type=float, default=2.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    budget_bytes = int(options.budget_gib * 2**30)
    flags = ["--budget-bytes", str(budget_bytes), "--images-max", str(options.pictures), "--runner", "null"]
    flags += ["--stall-seconds", "60", "--arena-bytes", str(2 * 2**30), "--kv-bytes", str(256 * 2**20)]
    with Group(budget_bytes) as group, serving("tiny", tp=1, flags=flags) as server:
        pids = sorted(each.pid for each in server.supervisor.children(recursive=True))
        group.take_in(server.supervisor)
        with watched(server.supervisor) as peak:
            started_s = time.perf_counter()
            outcomes = burst(server, options.requests, options.pictures)
            took_s = time.perf_counter() - started_s
            held = left(server)
            peak_bytes = peak.take()
        statistics = server.statistics()
        alive = pids == sorted(each.pid for each in server.supervisor.children(recursive=True))
        group_bytes = group.peak_bytes()
    statuses = Counter({status: 0 for status, _ in outcomes})
    for (status, _), count in outcomes.items():
        statuses[status] += count
    found = {
        "seconds": took_s,
        "outcomes": dict(statuses),
        "refused_without_retry_after": outcomes["503", False],
        "peak_bytes": peak_bytes,
        "group_peak_bytes": group_bytes,
        "budget_bytes": budget_bytes,
        "budget_peak_bytes": statistics["budget"]["peak_bytes"],
        "left": held,
        "same_processes": alive,
    }
    print(f"{options.requests} requests of {options.pictures} photographs in {took_s:.1f} s: {dict(statuses)}")
    print(f"refused without Retry-After: {found['refused_without_retry_after']}; the same processes: {alive}")
    group_text = f"{group_bytes / 1e6:.0f} MB" if group_bytes is not None else "none could be made"
    print(f"peak beyond idle {peak_bytes / 1e6:.0f} MB, sampled; control group: {group_text}; ", end="")
    print(f"reserved at most {found['budget_peak_bytes'] / 1e6:.0f} of {budget_bytes / 1e6:.0f} MB")
    print(f"left afterwards: {held}; cores {len(os.sched_getaffinity(0))}, load {os.getloadavg()[0]:.1f}")
    if options.json:
        options.json.write_text(json.dumps({"environment": environment(["burst"]), **found}, indent=2))


if __name__ == "__main__":
    main()
