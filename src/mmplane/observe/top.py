"""`mmplane top`: shows a server's activity in a terminal. Keys 1 to 6 select the view, q quits.

All data comes from the server's `/metrics`, so it needs the same access as a scrape.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException

from rich.console import Console
from rich.live import Live
from rich.text import Text

from mmplane.observe.keyboard import Keyboard
from mmplane.observe.screen import VIEWS, screen, view
from mmplane.observe.snapshot import Between, Snapshot
from mmplane.parser import Parser, server_url
from mmplane.ranges import Range

FIRST, QUIT = "1", "q"
"""Keys: for the first view, and to quit."""
EXAMPLE = "MMPLANE_API_KEY=... mmplane top --url http://10.0.0.1:8000"
KEY_VARIABLE = "MMPLANE_API_KEY"
LIMIT_SECONDS = 10.0
Unreachable = (OSError, HTTPException, ValueError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until `q` or Ctrl-C, or once. Return 1 if the server cannot be reached at the start."""
    options = options_parser().parse_args(arguments)
    console = Console()
    try:
        if options.once:
            console.print(screen(_wait(options, _scrape(options))))
        else:
            _watch(options, console)
    except Unreachable as error:
        print(f"mmplane top: {options.url} cannot be read: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def options_parser() -> argparse.ArgumentParser:
    """Declare the command's flags."""
    parser = Parser(prog="mmplane top", description=__doc__, example=EXAMPLE)
    parser.add_argument("--url", type=server_url, default="http://127.0.0.1:8000", help="the server")
    parser.add_argument("--interval", type=Range(float, 0.1, 3600), default=1.0, help="seconds between two looks")
    parser.add_argument("--once", action="store_true", help="print everything once and end: for scripts")
    return parser


def _watch(options: argparse.Namespace, console: Console) -> None:
    """Run until `q` is pressed. If the server goes away, wait for it."""
    before, shown, key = _scrape(options), None, FIRST
    drawn = Live(Text("reading..."), console=console, screen=console.is_terminal, auto_refresh=False)
    with Keyboard() as keyboard, drawn as live:
        look_s = time.monotonic() + options.interval
        while (pressed := keyboard.pressed(max(0.0, look_s - time.monotonic()))) != QUIT:
            key = pressed if pressed in VIEWS else key
            if time.monotonic() >= look_s:
                look_s = time.monotonic() + options.interval
                try:
                    shown = Between(before, _scrape(options))
                    before = shown.after
                except Unreachable as error:
                    shown = None
                    live.update(Text(f"{options.url} cannot be read: {error}", "red"), refresh=True)
            if shown is not None:
                live.update(view(shown, key), refresh=True)


def _wait(options: argparse.Namespace, before: Snapshot) -> Between:
    time.sleep(options.interval)
    return Between(before, _scrape(options))


def _scrape(options: argparse.Namespace) -> Snapshot:
    """Fetch the server's current metrics. Raises one of `Unreachable`."""
    headers = {}
    if key := os.environ.get(KEY_VARIABLE):
        headers["authorization"] = f"Bearer {key}"
    request = urllib.request.Request(options.url + "/metrics", headers=headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as reply:  # noqa: S310 - the operator's own server
        return Snapshot.of(reply.read().decode(), time.monotonic())
