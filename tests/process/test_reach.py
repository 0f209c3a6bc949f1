"""Who can reach us, and whom we reach: loopback only; pictures by URL only from hosts that the operator names."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from live import Live, serving
from pictures import photograph, text


def test_every_listening_socket_is_on_loopback(server: Live) -> None:
    listening = [
        connection
        for process in server.processes().values()
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 1, "the ranks' group listens too"
    assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}


class Files(BaseHTTPRequestHandler):
    """Serves one photograph, and some trouble."""

    def do_GET(self) -> None:
        if self.path == "/china.jpg":
            content = photograph("china")
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        elif self.path in ("/moved", "/astray"):
            self.send_response(302)
            self.send_header("location", "/china.jpg" if self.path == "/moved" else "http://169.254.169.254/")
            self.end_headers()
        else:
            self.send_error(500 if self.path == "/broken" else 404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def files() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{host.server_address[1]}"
        host.shutdown()
        thread.join()


def test_urls(files: str, tiny_folder: Path, server: Live) -> None:
    def ask(live: Live, url: str) -> tuple[int, str | None]:
        answer = live.chat([{"type": "image_url", "image_url": {"url": url}}, text("?")], max_tokens=1)
        return answer.status_code, None if answer.is_success else answer.json()["error"]["code"]

    assert ask(server, f"{files}/china.jpg") == (400, "host_not_allowed")
    with serving(tiny_folder, "--fetch-host", "127.0.0.1", tp=1) as live:
        assert ask(live, f"{files}/china.jpg") == (200, None)
        assert ask(live, f"{files}/missing") == (400, "invalid_media")
        assert ask(live, f"{files}/moved") == (200, None)
        assert ask(live, f"{files}/astray") == (400, "host_not_allowed")
        assert ask(live, f"{files}/broken") == (502, "fetch_failed")
        assert ask(live, "http://127.0.0.1:1/x") == (502, "fetch_failed")
        assert ask(live, "http://localhost/x") == (400, "host_not_allowed")
        assert ask(live, f"http://allowed@{files.removeprefix('http://')}/china.jpg") == (400, "host_not_allowed")
