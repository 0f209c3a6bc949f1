"""The status page of a real server in a real browser, headless: it draws what happened, and the policy is kept."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from live import Live, serving
from pictures import noise, part, text
from test_browser import CHROMIUM, FLAGS

from mmplane.observe.page import HEADERS

SECRET = "tell-nobody"


class Page(HTMLParser):
    """The bars of each lane, by the lane's process; what stands in the page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.lanes: list[tuple[str, list[str]]] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if process := given.get("data-process"):
            self.lanes.append((process, []))
        if stage := given.get("data-stage"):
            self.lanes[-1][1].append(stage)


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with serving("tiny", tp=2) as live:
        yield live


@contextmanager
def hosting(page: str) -> Iterator[str]:
    """This page under the status page's policy, and a server that answers nothing else: its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/" else 404)
            self.send_header("content-type", "text/html")
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{host.server_port}/"
        finally:
            host.shutdown()
            thread.join()


def browse(url: str, profile: Path) -> tuple[str, list[str]]:
    """The page's elements after some turns of its script, and what the console said."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--virtual-time-budget=4000", "--dump-dom", url]
    run = subprocess.run(command, capture_output=True, text=True, timeout=110, check=True)
    return run.stdout, [line for line in run.stderr.splitlines() if "CONSOLE" in line]


def test_it_shows_what_happened(live: Live, tmp_path: Path) -> None:
    assert live.chat([part(noise(95_001)), text(SECRET)]).status_code == 200
    assert live.chat([part(b"no picture"), text(SECRET)]).status_code == 400
    content, console = browse(live.url + "/", tmp_path)
    assert console == []
    assert 'data-drawn="2"' in content
    assert re.search(r'id="state"[^>]*>serving<', content)
    page = Page(content)
    assert {process for process, _ in page.lanes} >= {"frontend", "rank 0", "rank 1"}
    front_end = next(stages for process, stages in page.lanes if process == "frontend" and "generate" in stages)
    assert {"fetch", "prefill", "reply"} <= set(front_end)
    assert "invalid_media" in content
    assert SECRET not in content
    assert SECRET not in live.http.get("/admin/requests").text


def test_its_policy_is_sent(live: Live) -> None:
    answer = live.http.get("/")
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS


def test_a_script_that_is_not_its_own_does_not_run(live: Live, tmp_path: Path) -> None:
    """The mutant: the same page with one more script, under the same policy."""
    page = live.http.get("/").text
    with hosting(page.replace("</html>", '<script>document.body.dataset.stolen = "1"</script></html>')) as url:
        content, console = browse(url, tmp_path)
    assert "data-stolen" not in content
    assert any("Content Security Policy" in line for line in console)
