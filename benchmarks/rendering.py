"""How many pictures does one core render for a router, and what does a second render process add?

    python benchmarks/rendering.py [--requests 200] [--processes 1,2] [--server sidecar|serve]

Four new photographs of 1280 x 720 and a text of its own in each request, two connections for each render process, to
`/v1/chat/completions/render`. Bodies are made before the clock starts. Wanted: at least 1,000 pictures a second of CPU,
over all processes of the server together. Client and server share the machine, so pictures a second by the clock are a
lower bound.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil

from mmplane.bench.inputs.sources import Source, photograph
from mmplane.bench.inputs.stamps import stamped

PICTURES = 4
RATE_MIN = 1000.0
WARM = 10
CONNECTIONS = 2
"""For each render process."""
PATH = "/v1/chat/completions/render"


def cpu_s(root: int) -> float:
    """Of the whole tree of processes."""
    processes = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    tasks = [task for each in processes for task in Path(f"/proc/{each.pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def body_of(number: int, pictures: list[bytes]) -> bytes:
    """A request that nobody has sent before."""
    parts: list[dict[str, object]] = [{"type": "text", "text": f"Request {number}: what is in these pictures?"}]
    for picture in pictures:
        encoded = base64.b64encode(stamped(picture, b"%d" % number)).decode()
        parts.append({"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{encoded}"}})
    return json.dumps({"model": "tiny", "max_tokens": 1, "messages": [{"role": "user", "content": parts}]}).encode()


@contextmanager
def serving(server: str, processes: int) -> Iterator[tuple[int, str, int]]:
    """Its pid, host and port."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mmplane", server, "--model", "tiny", "--log-level", "warning"]
        if server == "serve":
            command += ["--port", "0"]
        else:
            command += ["--socket", f"{folder}/socket", "--workers", "1", "--arena-bytes", str(64 * 2**20)]
            command += ["--http-port", "0", "--render-processes", str(processes)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            found = next(found for line in process.stdout if (found := re.search(r"http://([\d.]+):(\d+)", line)))
            try:
                yield process.pid, found.group(1), int(found.group(2))
            finally:
                process.terminate()
                process.wait(30)


def render(host: str, port: int, bodies: list[bytes]) -> None:
    """One after the other, on one connection."""
    connection = http.client.HTTPConnection(host, port, timeout=60)
    for body in bodies:
        connection.request("POST", PATH, body)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()
    connection.close()


def measure(server: str, processes: int, bodies: list[bytes]) -> float:
    """Pictures a second of CPU; prints them."""
    connections = CONNECTIONS * processes
    with serving(server, processes) as (pid, host, port), ThreadPoolExecutor(connections) as threads:

        def run(bodies: list[bytes]) -> None:
            list(threads.map(lambda first: render(host, port, bodies[first::connections]), range(connections)))

        run(bodies[: WARM * processes])
        rest = bodies[WARM * processes :]
        before_s, began_s = cpu_s(pid), time.perf_counter()
        run(rest)
        spent_s, taken_s = cpu_s(pid) - before_s, time.perf_counter() - began_s
    count = len(rest) * PICTURES
    print(
        f"{server}, {processes} render processes: {count / spent_s:.0f} pictures a second of CPU (at least "
        f"{RATE_MIN:g}), {1000 * spent_s / count:.2f} ms each; {count / taken_s:.0f} a second by the clock",
        flush=True,
    )
    return count / spent_s


def main() -> None:
    """Measure, print, fail below the rate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--processes", default="1,2")
    parser.add_argument("--server", choices=["sidecar", "serve"], default="sidecar")
    options = parser.parse_args()
    pictures = [photograph(Source("image", seed, 1280, 720)) for seed in range(PICTURES)]
    print(f"pictures of {sum(map(len, pictures)) // PICTURES // 1000} kB")
    counts = [int(each) for each in options.processes.split(",")] if options.server == "sidecar" else [1]
    bodies = [body_of(number, pictures) for number in range(options.requests + WARM * max(counts))]
    sys.exit(min(measure(options.server, count, bodies) for count in counts) < RATE_MIN)


if __name__ == "__main__":
    main()
