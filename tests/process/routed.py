"""`mmplane route` under test, and replicas that do what a request says."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from live import START_LIMIT_S, STOP_LIMIT_S
from preloaded import environment

from mmplane.route.configuration import Route
from mmplane.route.control import Control
from mmplane.route.program import find
from mmplane.route.replica import Replica
from mmplane.route.router import Router
from polling import until

LIMIT_S = 60.0


class Puppet(ThreadingHTTPServer):
    """A replica whose answers are held, cut or lost as the request's `model` says."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1", port: int = 0, certificate: Path | None = None) -> None:
        """With a certificate and its key it speaks TLS."""
        super().__init__((host, port), _Handler)
        self.url = f"{'https' if certificate else 'http'}://{host}:{self.server_port}"
        self.name = f"{host}:{self.server_port}"
        self.refused = threading.Semaphore(0)
        """Connections that broke: clients do not trust its certificate."""
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.ready = True
        self.authorizations: set[str | None] = set()
        self.arrived = threading.Semaphore(0)
        self.gate = threading.Event()
        """Lets held answers go."""
        self.bodies: list[bytes] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def handle_error(self, *_: Any) -> None:
        self.refused.release()

    def end(self) -> None:
        """It accepts nothing any more."""
        self.gate.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Puppet
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and content at once: HAProxy's checks read no more than they need

    def do_GET(self) -> None:
        if self.path == "/ready":
            self.server.authorizations.add(self.headers["authorization"])
        self._answer(200 if self.server.ready or self.path != "/ready" else 503, b"{}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.bodies.append(body)
        self.server.arrived.release()
        model = json.loads(body)["model"]
        if model == "lost":
            self.close_connection = True
        elif model == "cut":
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nbegun\r\n")
            self.wfile.flush()
            self.server.gate.wait(LIMIT_S)
            self.close_connection = True
        else:
            if model == "held":
                self.server.gate.wait(LIMIT_S)
            self._answer(503 if model == "full" else 200, b"{}")

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        if status == 503:
            self.send_header("retry-after", "7")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None: ...


class Routed:
    """One running router."""

    def __init__(
        self, folder: Path, *flags: str, verify: ssl.SSLContext | bool = True, within: Sequence[str] = ()
    ) -> None:
        """`within` is a command that executes what follows it."""
        self.folder = folder
        self._process = subprocess.Popen(
            [*within, sys.executable, "-m", "mmplane", "route", "--port", "0", "--folder", str(folder), *flags],
            stdout=subprocess.PIPE,
            text=True,
            env=environment({}),
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found = re.search(r"at (https?://\S+) with", line)
        assert found is not None, f"ended with {self._process.wait(START_LIMIT_S)}"
        self.url = found[1]
        self.pid = self._process.pid
        limits = httpx.Limits(max_connections=256)
        self.http = httpx.Client(base_url=self.url, timeout=LIMIT_S, limits=limits, verify=verify)

    def order(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`mmplane route WORDS` for this router."""
        return subprocess.run(
            [sys.executable, "-m", "mmplane", "route", *words, "--folder", str(self.folder)],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            env=environment({}),
        )

    def states(self) -> dict[str, str]:
        """UP or DOWN of each replica, by name."""
        lines = self.order("list").stdout.splitlines()[1:]
        return {words[0]: words[2] for words in map(str.split, lines)}

    def wait(self) -> int:
        """Its exit code."""
        return self._process.wait(STOP_LIMIT_S)

    def stop(self) -> int:
        """As systemd does; the exit code."""
        self.http.close()
        self._process.terminate()
        code = self.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code


@contextmanager
def routing(folder: Path, *flags: str, **more: Any) -> Iterator[Routed]:
    """A router for some tests."""
    routed = Routed(folder, *flags, **more)
    try:
        yield routed
    finally:
        assert routed.stop() == 0


class Mutant:
    """HAProxy with one piece of its files made another; only requests can be sent to it."""

    def __init__(self, folder: Path, puppets: list[Puppet], file: str, piece: str, instead: str, **more: Any) -> None:
        """`more` are settings of its Route."""
        program = find(os.environ.get("MMPLANE_HAPROXY", ""))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            replicas = tuple(Replica.of(each.url) for each in puppets)
            bind = f"fd@{listener.fileno()}"
            Router(program, Route(replicas, folder, bind, keep_clients=program.keeps_clients, **more), listener).write()
            text = (folder / file).read_text()
            assert text.count(piece) >= 1
            (folder / file).write_text(text.replace(piece, instead))
            command = [program.path, "-f", folder / "haproxy.cfg", "-db"]
            self._process = subprocess.Popen(command, pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.http = httpx.Client(base_url=url, timeout=LIMIT_S)
        until(Control(folder).answers, LIMIT_S, "it runs")

    def end(self) -> None:
        """At once."""
        self.http.close()
        self._process.kill()
        self._process.wait()
