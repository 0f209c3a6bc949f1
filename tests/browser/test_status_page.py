"""The status page of a real server in a real browser, headless: it shows what happened, and asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from chromium import browsing
from live import Live, serving
from pictures import noise, part, text

from mmplane.demo import LOOKS, draw
from mmplane.observe.page import HEADERS, PAGE

SECRET = "tell-nobody"
ENDS = """[...document.querySelectorAll("#requests > .request")].map(row => Math.max(
  ...[...row.querySelectorAll(".lane div")].map(bar => parseFloat(bar.style.left) + parseFloat(bar.style.width))))"""
DRAWN = "document.body.dataset.drawn == {count}"
LANES = """[...document.querySelectorAll("#requests .lane")].map(
  lane => [lane.dataset.process, [...lane.children].map(bar => bar.dataset.stage)])"""


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with serving("tiny", tp=2) as live:
        yield live


@contextmanager
def hosting(page: bytes, key: str | None = None) -> Iterator[tuple[str, list[str | None]]]:
    """This page under the status page's policy, and a server that answers nothing else: its address.

    With a key it refuses who has another, and the second value lists what callers had in its place.
    """
    presented: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/":
                presented.append(self.headers["authorization"])
                self.send_error(401 if self.headers["authorization"] != f"Bearer {key}" else 404)
                return
            self.send_response(200)
            self.send_header("content-type", "text/html")
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{host.server_port}/", presented
        finally:
            host.shutdown()
            thread.join()


def test_it_shows_what_happened(live: Live, tmp_path: Path) -> None:
    assert live.chat([part(noise(95_001)), text(SECRET)]).status_code == 200
    assert live.chat([part(b"no picture"), text(SECRET)]).status_code == 400
    with browsing(tmp_path) as page:
        page.open(live.url + "/")
        page.until(DRAWN.format(count=2))
        lanes = page.ask(LANES)
        shown = page.ask("document.body.innerText")
        ticks = page.ask("[...document.querySelectorAll('#scale span')].map(tick => Number(tick.textContent))")
        assert page.ask("document.querySelectorAll('.spark').length") == 6
        assert page.ask("document.getElementById('state').textContent") == "serving"
        # On one time axis the longest request reaches its end, and no other does.
        ends = page.ask(ENDS)
        assert page.console == []
    assert {process for process, _ in lanes} >= {"frontend", "rank 0", "rank 1"}
    front_end = next(stages for process, stages in lanes if process == "frontend" and "generate" in stages)
    assert {"fetch", "prefill", "reply"} <= set(front_end)
    assert "tiny · 2 ranks · mmplane" in shown
    assert "400 invalid_media" in shown
    assert ticks[0] == 0
    assert ticks == sorted(ticks)
    assert len(ticks) > 2
    assert len(ends) == 2
    assert sum(end > 99 for end in ends) == 1
    assert SECRET not in shown
    assert SECRET not in live.http.get("/admin/requests").text


def test_a_picture_that_is_dropped_on_it_is_asked_about(live: Live, tmp_path: Path) -> None:
    with browsing(tmp_path) as page:
        page.open(live.url + "/")
        page.until("document.body.dataset.drawn")
        page.drop(draw("4821", *LOOKS[0]))
        page.until("document.querySelector('#drop img').naturalWidth")
        page.ask("document.getElementById('question').value = 'Which number is this?'")
        page.ask("document.getElementById('send').click()")
        page.until("document.getElementById('answer').dataset.asked")
        assert page.ask("document.getElementById('answer').textContent") == "4821"
        assert page.console == []


def test_it_asks_for_a_key_and_forgets_it(tmp_path: Path) -> None:
    with hosting(PAGE, "operator") as (url, presented), browsing(tmp_path) as page:
        page.open(url)
        page.until("!document.getElementById('keyed').hidden")
        page.ask("""{ const key = document.getElementById("key"); key.value = "operator";
          key.dispatchEvent(new Event("input")); }""")
        page.until("document.getElementById('state').textContent.includes('404')")
        kept = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
        assert page.ask(kept) == '[{},{},""]'
    assert presented[0] is None
    assert presented[-1] == "Bearer operator"


def test_its_policy_is_sent(live: Live) -> None:
    answer = live.http.get("/")
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS


def test_a_script_that_is_not_its_own_does_not_run(tmp_path: Path) -> None:
    """The mutant: the same page with one more script, under the same policy."""
    script = b'<script>document.body.dataset.stolen = "1"</script>'
    with hosting(PAGE.replace(b"</html>", script + b"</html>")) as (url, _), browsing(tmp_path) as page:
        page.open(url)
        page.until("document.getElementById('state').textContent.startsWith('no answer')")
        assert page.ask("document.body.dataset.stolen ?? null") is None
        assert any("Content Security Policy" in line for line in page.console)
