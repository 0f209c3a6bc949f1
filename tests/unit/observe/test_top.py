"""`mmplane top` in a terminal: keys choose what it shows, and q quits."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from figures import figures

from mmplane.observe.exposition import exposition
from mmplane.observe.metrics import METRICS


@contextmanager
def metrics() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(exposition(figures(10), METRICS))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{host.server_port}"
        finally:
            host.shutdown()
            thread.join()


def test_keys_choose_a_view_and_q_quits() -> None:
    ours, theirs = pty.openpty()
    with metrics() as url:
        command = [sys.executable, "-m", "mmplane", "top", "--url", url, "--interval", "0.1"]
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        top = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        try:
            _read_until(ours, b"materialise")  # a phase
            os.write(ours, b"2")
            _read_until(ours, b"slot_wait")  # a stage
            os.write(ours, b"x3")  # x is no view
            _read_until(ours, b"longest free")
            os.write(ours, b"q")
            assert top.wait(60) == 0
        finally:
            top.kill()
            top.wait()
            os.close(ours)


def _read_until(terminal: int, wanted: bytes) -> None:
    seen = b""
    while wanted not in seen:
        seen += os.read(terminal, 4096)
