"""Does the front end's loop stay free while large bodies come in? (hazard R12)

    python benchmarks/loop_lag.py [--requests 50] [--megabytes 20]

Starts a server (null runner, so that the model takes no processor time), sends all requests at once, each with one
random PNG in base64, and asks `/health` all the while. Prints the latencies of `/health`, the loop's own lag, and the
statuses. Wanted on a quiet machine: `/health` p99 below 100 ms, lag p99 below 20 ms. Clients and server share the
machine: with two cores the figures hold the clients' own waiting too, so they are an upper bound.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import re
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


async def measure(url: str, bodies: list[bytes]) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=httpx.Limits(max_connections=200)) as client:
        done = asyncio.Event()
        latencies_ms: list[float] = []

        async def watch() -> None:
            while not done.is_set():
                started_s = time.perf_counter()
                (await client.get("/health")).raise_for_status()
                latencies_ms.append((time.perf_counter() - started_s) * 1000)
                await asyncio.sleep(PAUSE_SECONDS)

        before = (await client.get("/admin/statistics")).json()["loop_lag"]["buckets"]
        watching = asyncio.create_task(watch())
        headers = {"content-type": "application/json"}
        started_s = time.perf_counter()
        answers = await asyncio.gather(
            *(client.post("/v1/chat/completions", content=each, headers=headers) for each in bodies)
        )
        took_s = time.perf_counter() - started_s
        done.set()
        await watching
        after = (await client.get("/admin/statistics")).json()
    counts = {bound: count - before[bound] for bound, count in after["loop_lag"]["buckets"].items()}
    print(f"{len(bodies)} bodies of {len(bodies[0]) / 1e6:.0f} MB in {took_s:.1f} s")
    print("statuses:", dict(Counter(answer.status_code for answer in answers)))
    print("/health ms: p50 {:.1f}, p99 {:.1f}, max {:.1f}".format(*_percentiles(latencies_ms)))
    print("loop lag, counts by upper bound in seconds:", {bound: count for bound, count in counts.items() if count})
    print(f"loop lag p99 below {_p99(counts)} s, longest {after['loop_lag']['max_s'] * 1000:.1f} ms")


def _percentiles(values: list[float]) -> tuple[float, float, float]:
    return statistics.median(values), statistics.quantiles(values, n=100)[-1], max(values)


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
    options = parser.parse_args()
    length_bytes = options.megabytes * 1_000_000
    region_bytes = options.requests * (length_bytes + 2**21) + 2**26
    command = [sys.executable, "-m", "mmplane", "serve", "--port", "0", "--tp", "1", "--runner", "null"]
    command += ["--workers", "1", "--arena-bytes", str(4 * region_bytes), "--budget-bytes", str(8 * region_bytes)]
    bodies = [body(seed, length_bytes) for seed in range(options.requests)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            url = next(found.group(1) for line in server.stdout if (found := re.search(r"at (http://\S+),", line)))
            asyncio.run(measure(url, bodies))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
