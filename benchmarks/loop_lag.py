"""Does the front end's loop stay free while large bodies come in? (hazard R12)

    python benchmarks/loop_lag.py [--requests 50] [--megabytes 20] [--rounds 5]

Starts a server (null runner, so that the model takes no processor time), sends all requests at once, each with one
random PNG in base64, and asks `/health` from another process all the while. Prints the latencies of `/health`, the
loop's own lag, and the statuses. Wanted on a quiet machine: `/health` p99 below 100 ms, lag p99 below 20 ms. Clients and server share the
machine: with two cores the figures hold the clients' own waiting too, so they are an upper bound.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import re
import select
import statistics
import subprocess
import sys
import time
from collections import Counter

import httpx
import numpy as np

PAUSE_SECONDS = 0.01


def body(seed: int, length_bytes: int) -> bytes:
    """A request whose picture is `length_bytes` of base64: noise behind a PNG's header, refused once it is decoded."""
    noise = np.random.default_rng(seed).bytes(length_bytes * 3 // 4)
    uri = b"data:image/png;base64," + base64.b64encode(noise)
    content = b'[{"type":"image_url","image_url":{"url":"' + uri + b'"}}]'
    return b'{"model":"tiny","max_tokens":1,"messages":[{"role":"user","content":' + content + b"}]}"


def watch(url: str) -> None:
    """Ask `/health` until standard input ends; print every latency in ms. A process of its own, as a probe's is."""
    latencies_ms: list[float] = []
    with httpx.Client(base_url=url, timeout=300) as client:
        while not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
            started_s = time.perf_counter()
            client.get("/health").raise_for_status()
            latencies_ms.append((time.perf_counter() - started_s) * 1000)
    json.dump(latencies_ms, sys.stdout)


async def send(url: str, bodies: list[bytes], rounds: int) -> tuple[Counter[int], dict[str, int], float]:
    """All bodies at once, `rounds` times: statuses, the loop's lag by bound, and its longest in ms."""
    statuses: Counter[int] = Counter()
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=httpx.Limits(max_connections=200)) as client:
        before = (await client.get("/admin/statistics")).json()["loop_lag"]["buckets"]
        headers = {"content-type": "application/json"}
        for _ in range(rounds):
            posts = (client.post("/v1/chat/completions", content=each, headers=headers) for each in bodies)
            statuses.update(answer.status_code for answer in await asyncio.gather(*posts))
        lag = (await client.get("/admin/statistics")).json()["loop_lag"]
    return statuses, {bound: count - before[bound] for bound, count in lag["buckets"].items()}, lag["max_s"] * 1000


def measure(url: str, bodies: list[bytes], rounds: int) -> None:
    command = [sys.executable, __file__, "--watch", url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watcher:
        started_s = time.perf_counter()
        statuses, counts, longest_ms = asyncio.run(send(url, bodies, rounds))
        took_s = time.perf_counter() - started_s
        latencies_ms = json.loads(watcher.communicate()[0])
    print(f"{rounds} x {len(bodies)} bodies of {len(bodies[0]) / 1e6:.0f} MB in {took_s:.1f} s")
    print("statuses:", dict(statuses))
    print(
        "/health ms, {} times: p50 {:.1f}, p99 {:.1f}, max {:.1f}".format(
            len(latencies_ms), *_percentiles(latencies_ms)
        )
    )
    print("loop lag, counts by upper bound in seconds:", {bound: count for bound, count in counts.items() if count})
    print(f"loop lag p99 below {_p99(counts)} s, longest {longest_ms:.1f} ms")


def _percentiles(values: list[float]) -> tuple[float, float, float]:
    return statistics.median(values), statistics.quantiles(values, n=100, method="inclusive")[-1], max(values)


def _p99(counts: dict[str, int]) -> str:
    total, seen = sum(counts.values()), 0
    for bound, count in counts.items():
        seen += count
        if seen >= 0.99 * total:
            return bound
    return "+Inf"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--watch", metavar="URL", help="only ask URL/health; for this script's own use")
    options = parser.parse_args()
    if options.watch:
        return watch(options.watch)
    length_bytes = options.megabytes * 1_000_000
    region_bytes = options.requests * (length_bytes + 2**21) + 2**26
    command = [sys.executable, "-m", "mmplane", "serve", "--port", "0", "--tp", "1", "--runner", "null"]
    command += ["--workers", "1", "--arena-bytes", str(4 * region_bytes), "--budget-bytes", str(8 * region_bytes)]
    bodies = [body(seed, length_bytes) for seed in range(options.requests)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            url = next(found.group(1) for line in server.stdout if (found := re.search(r"at (http://\S+),", line)))
            measure(url, bodies, options.rounds)
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
