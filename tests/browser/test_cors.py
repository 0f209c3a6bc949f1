"""A page of another origin in a real browser: it asks about a picture if its site is allowed, and not otherwise."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from chromium import browsing
from live import Live, serving

from mmplane.demo import LOOKS, QUESTION, draw

NUMBER = "4821"
PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script type="module">
const headers = { "content-type": "application/json", "authorization": "Bearer none" };
try {
  const answer = await fetch("URL/v1/chat/completions", { method: "POST", headers, body: JSON.stringify(BODY) });
  document.body.dataset.said = (await answer.json()).choices[0].message.content;
  document.body.dataset.id = answer.headers.get("x-request-id");
} catch (error) {
  document.body.dataset.failed = error.name;
}
</script><body>"""


@contextmanager
def site(folder: Path) -> Iterator[str]:
    """The files of a folder as a site: its origin."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{host.server_port}"
        finally:
            host.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def origin(folder: Path) -> Iterator[str]:
    with site(folder) as origin:
        yield origin


@pytest.fixture(scope="module")
def live(folder: Path, origin: str) -> Iterator[Live]:
    picture = "data:image/png;base64," + base64.b64encode(draw(NUMBER, *LOOKS[0])).decode()
    content = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": picture}}]
    body = {"model": "tiny", "max_tokens": 8, "temperature": 0, "messages": [{"role": "user", "content": content}]}
    with serving("tiny", "--allow-origin", origin) as live:
        (folder / "index.html").write_text(PAGE.replace("URL", live.url).replace("BODY", json.dumps(body)))
        yield live


DONE = "document.body.dataset.id || document.body.dataset.failed"
SAID = "document.body.dataset.said"


def test_a_page_of_an_allowed_site_asks_about_a_picture(live: Live, origin: str, tmp_path: Path) -> None:
    with browsing(tmp_path) as page:
        page.open(f"{origin}/")
        page.until(DONE)
        assert page.ask(SAID) == NUMBER
        newest = live.http.get("/admin/requests").json()["requests"][0]
        assert page.ask("document.body.dataset.id") == newest["id"], "the page sees the request's name"
        assert page.console == []


def test_a_page_of_another_site_does_not(live: Live, folder: Path, tmp_path: Path) -> None:
    asked = len(live.http.get("/admin/requests").json()["requests"])
    with site(folder) as other, browsing(tmp_path) as page:
        page.open(f"{other}/")
        page.until(DONE)
        assert page.ask("document.body.dataset.failed") == "TypeError"
        assert any("CORS" in each for each in page.console)
    assert len(live.http.get("/admin/requests").json()["requests"]) == asked
