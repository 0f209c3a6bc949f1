"""What `mmplane route` costs: HAProxy's CPU for each request, by the size of its body.

    .venv/bin/python benchmarks/route.py [--requests 300] [--haproxy PATH]

Four replicas in this process answer at once. HAProxy's user and system time are read from /proc, so only its own CPU is
counted. It exits with 1 if a request of 300 KB costs more than 2 ms.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import random
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

from mmplane.commands.starting import listen
from mmplane.route.configuration import Route
from mmplane.route.program import find
from mmplane.route.replica import Replica
from mmplane.route.router import Router

LIMIT_MS = 2.0
SIZES = {"text, 1 KB": 0, "picture, 300 KB": 300_000, "picture, 3 MB": 3_000_000}
PICTURES = 24


class Answer(BaseHTTPRequestHandler):
    """200 to everything, once it is read."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self) -> None:
        left = int(self.headers["content-length"])
        while left:
            left -= len(self.rfile.read(min(left, 65536)))
        self.do_GET()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def replicas(count: int) -> Iterator[list[Replica]]:
    """So many, in threads of this process."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Answer) for _ in range(count)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [Replica("127.0.0.1", server.server_port) for server in servers]
    for server in servers:
        server.shutdown()


def body(source: random.Random, size: int) -> bytes:
    """A request with a picture of so many bytes in base64, or with text alone."""
    content: list[object] = [{"type": "text", "text": "q" * 1000}]
    if size:
        url = "data:image/jpeg;base64," + base64.b64encode(source.randbytes(size * 3 // 4)).decode()
        content.append({"type": "image_url", "image_url": {"url": url}})
    return json.dumps({"model": "tiny", "messages": [{"role": "user", "content": content}]}).encode()


def cpu_s(pid: int) -> float:
    """User and system time of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(url: str, pid: int, size: int, requests: int) -> float:
    """Milliseconds of HAProxy's CPU for each request."""
    source = random.Random(size)
    bodies = [body(source, size) for _ in range(PICTURES)]
    client = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    seen: Counter[str | None] = Counter()
    before_s, begin_s = cpu_s(pid), perf_counter()
    for index in range(requests):
        client.request("POST", "/v1/chat/completions", bodies[index % PICTURES])
        response = client.getresponse()
        response.read()
        assert response.status == 200, response.status
        seen[response.getheader("x-mmplane-replica")] += 1
    cost_ms = (cpu_s(pid) - before_s) / requests * 1000
    wall_ms = (perf_counter() - begin_s) / requests * 1000
    print(f"| {len(bodies[0]):>9} | {cost_ms:6.2f} | {wall_ms:6.2f} | {dict(sorted(seen.items(), key=str))} |")
    return cost_ms


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--haproxy", default="")
    options = parser.parse_args()
    program = find(options.haproxy)
    print(f"HAProxy {program.version} ({program.path})")
    with replicas(4) as servers, tempfile.TemporaryDirectory() as folder:
        listener = listen("127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        route = Route(tuple(servers), Path(folder), f"fd@{listener.fileno()}", keep_clients=program.keeps_clients)
        router = Router(program, route, listener)
        router.write()
        running = router.run()
        print("| body, bytes | HAProxy's CPU, ms | wall, ms | requests by replica |\n|---|---|---|---|")
        costs_ms = {name: measure(url, running.pid, size, options.requests) for name, size in SIZES.items()}
        running.end()
    over = costs_ms["picture, 300 KB"] > LIMIT_MS
    print(f"a request of 300 KB costs {costs_ms['picture, 300 KB']:.2f} ms, at most {LIMIT_MS:g} are allowed")
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
