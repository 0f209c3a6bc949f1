"""`mmplane doctor --sglang [URL]`: whether the plugin will work in this environment, and whether it does in a server.

Run it with the Python that SGLang runs with. It exits with 0 when every line says `ok`. Given the URL of a server,
started with `--enable-metrics`, it also says how many features went through its arena.
"""

from __future__ import annotations

import argparse
import os
import re
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import entry_points

import sglang
import torch

from mmplane.arena.errors import ArenaError
from mmplane.arena.memory import memory_available_bytes
from mmplane.embed.address import Address
from mmplane.embed.inbox import Inbox
from mmplane.embed.plane import Plane
from mmplane.engines.sglang.plugin import GROUP, NAME, unfit
from mmplane.engines.sglang.settings import ARENA_BYTES_VARIABLE, arena_bytes

URL_LIMIT_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(prog="mmplane doctor", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--sglang", action="store_true", required=True)
    parser.add_argument("url", nargs="?", help="a running server, such as http://127.0.0.1:30000")
    options = parser.parse_args(arguments)
    wrong = 0
    for subject, trouble in findings(options.url):
        print(f"{subject:48} {trouble or 'ok'}")
        wrong += trouble is not None
    return 1 if wrong else 0


def findings(url: str | None) -> Iterator[tuple[str, str | None]]:
    """(what was looked at, what is wrong and how to mend it) of everything."""
    checks: dict[str, Callable[[], str | None]] = {
        f"SGLang {sglang.__version__}, and what is hooked": unfit,
        "SGLang finds the plugin": _is_found,
        "memory for the arena": _has_memory,
        "a tensor through an arena": _makes_the_trip,
    }
    for subject, check in checks.items():
        yield subject, check()
    if url is not None:
        yield _running(url)


def _is_found() -> str | None:
    if not any(point.name == NAME for point in entry_points(group=GROUP)):
        return "no entry point: pip install --no-deps mmplane into this environment"
    chosen = os.environ.get("SGLANG_PLUGINS")
    if chosen and NAME not in [name.strip() for name in chosen.split(",")]:
        return f"SGLANG_PLUGINS leaves it out: add {NAME}"
    return None


def _has_memory() -> str | None:
    wanted_bytes, available_bytes = arena_bytes(), memory_available_bytes()
    if wanted_bytes > available_bytes:
        return f"{wanted_bytes >> 20} MiB wanted, {available_bytes >> 20} available: lower {ARENA_BYTES_VARIABLE}"
    return None


def _makes_the_trip() -> str | None:
    source = torch.arange(1000, dtype=torch.bfloat16)
    try:
        address = Address.create(2**20)
        plane, inbox = Plane(address), Inbox(address, 0)
        view = inbox.open(plane.put(bytes(32), {"f": source}).lease())
    except (OSError, ArenaError, ValueError) as error:
        return f"{error}: /proc of other processes of this user must be readable"
    return None if torch.equal(view.arrays(torch)["f"], source) else "it arrived changed: please report this"


def _running(url: str) -> tuple[str, str | None]:
    """What a server says in its metrics."""
    subject = f"the server at {url}"
    try:
        with urllib.request.urlopen(url.rstrip("/") + "/metrics", timeout=URL_LIMIT_S) as answer:  # noqa: S310
            text = answer.read().decode()
    except OSError as error:
        return subject, f"{error}: start it with --enable-metrics"
    figures = dict(re.findall(r"^mmplane_(\w+)(?:\{.*\})? (\S+)$", text, re.MULTILINE))
    if "arena_misses" not in figures:
        return subject, "no features in its arena yet: send it an image, and look for `mmplane:` in its log"
    placed = float(figures["arena_hits"]) + float(figures["arena_misses"])
    return f"{subject}: {placed:.0f} features, {float(figures['features_inline']):.0f} of them inline", None
