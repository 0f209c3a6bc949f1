"""How many pictures does one core render for a router?

    python benchmarks/rendering.py [--requests 100]

Four new photographs of 1280 x 720 a request, one request at a time, to `/v1/chat/completions/render`. Wanted: at least
1,000 pictures a second of CPU, over all processes of the server together.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil

from mmplane.bench.inputs.sources import Source, photograph
from mmplane.bench.inputs.stamps import stamped

PICTURES = 4
RATE_MIN = 1000.0


def cpu_s(root: int) -> float:
    """Of the whole tree of processes."""
    processes = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    tasks = [task for each in processes for task in Path(f"/proc/{each.pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def main() -> None:
    """Measure, print, fail below the rate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=100)
    options = parser.parse_args()
    pictures = [photograph(Source("image", seed, 1280, 720)) for seed in range(PICTURES)]
    command = [sys.executable, "-m", "mmplane", "serve", "--model", "tiny", "--port", "0", "--log-level", "warning"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        ready = next(line for line in server.stdout if "mmplane is ready" in line)
        url = ready.partition(" at ")[2].partition(",")[0] + "/v1/chat/completions/render"

        def render(first: int, count: int) -> None:
            for number in range(first, first + count):
                parts = [
                    {
                        "type": "image_url",
                        "image_url": {
                            "url": "data:image/jpeg;base64,"
                            + base64.b64encode(stamped(picture, b"%d" % number)).decode()
                        },
                    }
                    for picture in pictures
                ]
                body = {"model": "tiny", "max_tokens": 1, "messages": [{"role": "user", "content": parts}]}
                asked = urllib.request.Request(url, json.dumps(body).encode())
                with urllib.request.urlopen(asked, timeout=60) as answer:
                    answer.read()

        render(0, 10)
        before_s = cpu_s(server.pid)
        render(10, options.requests)
        spent_s = cpu_s(server.pid) - before_s
    finally:
        server.terminate()
        server.wait(30)
    rate = options.requests * PICTURES / spent_s
    print(
        f"{rate:.0f} pictures a second of CPU (at least {RATE_MIN:g}); one of {len(pictures[0]) // 1000} kB takes "
        f"{1000 / rate:.2f} ms"
    )
    sys.exit(rate < RATE_MIN)


if __name__ == "__main__":
    main()
