"""Screenshots for the documentation: `make screenshots` writes docs/screenshots/*.webp.

    python tools/docs/screenshots.py FOLDER [status] [report] [docs]

The status page is that of a server that this starts and asks, the report is drawn from docs/results/cores.json, and the
documentation is what `make docs` has built.
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from chromium import Page, browsing
from live import serving
from pictures import noise, part, text

from mmplane.bench.judge.joined import joined
from mmplane.bench.report.html_report import page as report_page
from mmplane.demo import LOOKS, draw

ROOT = Path(__file__).parents[2]
REPORTED = ROOT / "docs" / "results" / "cores.json"
BYTES_MAX = 200_000


def status(page: Page, folder: Path) -> None:
    """A server that has answered, refused, and been asked about a picture."""
    with serving("tiny", tp=2) as live:
        page.open(live.url + "/", height=1100)
        for index in range(8):
            live.chat([part(noise(70_000 + index % 6)), text("What is this?")])
        live.chat([part(b"no picture"), text("What is this?")])
        page.until("document.body.dataset.drawn == 9")
        page.drop(draw("4821", *LOOKS[0]))
        page.ask("document.getElementById('question').value = 'Which number is this?'")
        page.ask("document.getElementById('send').click()")
        page.until("document.getElementById('answer').dataset.asked")
        page.until("document.body.dataset.drawn == 10")
        page.picture(folder / "status.webp")
        page.open(live.url + "/", height=1100, dark=True)
        page.until("document.body.dataset.drawn == 10")
        page.picture(folder / "status-dark.webp")


def report(page: Page, folder: Path) -> None:
    """A run that is published."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "report.html"
        path.write_text(report_page(joined([json.loads(REPORTED.read_text())])))
        page.open(path.as_uri(), width=1400, height=1500)
        page.until("document.documentElement.dataset.drawn")
        page.picture(folder / "report.webp")


def docs(page: Page, folder: Path) -> None:
    """The first page of the site."""
    with hosted(ROOT / "build" / "site") as url:
        page.open(url, width=1400, height=1000)
        page.until("document.readyState == 'complete' && document.querySelector('h1')")
        page.picture(folder / "docs.webp")


@contextmanager
def hosted(folder: Path) -> Iterator[str]:
    """The files of a folder, on loopback."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{host.server_port}/"
        finally:
            host.shutdown()
            thread.join()


SHOTS: dict[str, Callable[[Page, Path], None]] = {"status": status, "report": report, "docs": docs}


def main(folder: Path, names: list[str]) -> None:
    """Take them. Raises AssertionError when a page complains, or a file becomes too large."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or SHOTS:
        with tempfile.TemporaryDirectory() as profile, browsing(Path(profile)) as page:
            SHOTS[name](page, folder)
            assert page.console == [], page.console
    for path in folder.glob("*.webp"):
        assert path.stat().st_size < BYTES_MAX, path


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
