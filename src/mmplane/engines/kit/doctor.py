"""The framework of `mmplane doctor --ENGINE [URL]`: checks an environment, and then a running server by its metrics.

It exits with 0 if every line says `ok`. A check that raises has failed.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from importlib import import_module
from importlib.metadata import entry_points

from mmplane.embed.inbox import Inbox
from mmplane.embed.sidecar import Sidecar
from mmplane.parser import Parser

URL_LIMIT_S = 10.0
METRICS_BYTES_MAX = 16 * 2**20
ARENA_BYTES = 2**20

Check = Callable[[], str | None]
"""Return the problem and how to fix it, or None."""


def run(engine: str, checks: Mapping[str, Check], arguments: Sequence[str] | None, *, metrics: str) -> int:
    """Run the command; return its exit status. `metrics` tells how to make a server show metrics."""
    parser = Parser(
        prog="mmplane doctor", description=f"Whether the plugin for {engine} works in this environment, or in a server."
    )
    parser.add_argument(f"--{engine}", action="store_true", required=True)
    parser.add_argument("url", nargs="?", help="a running server, such as http://127.0.0.1:30000")
    options = parser.parse_args(arguments)
    wrong = 0
    for subject, trouble in findings(checks, options.url, metrics=metrics):
        print(f"{subject:48} {trouble or 'ok'}")
        wrong += trouble is not None
    return 1 if wrong else 0


def findings(checks: Mapping[str, Check], url: str | None, *, metrics: str) -> Iterator[tuple[str, str | None]]:
    """Return (subject, problem) of every check, and of the server at `url`."""
    for subject, check in checks.items():
        yield subject, _outcome(check)
    if url is None:
        return
    try:
        with urllib.request.urlopen(url.rstrip("/") + "/metrics", timeout=URL_LIMIT_S) as answer:  # noqa: S310
            text = answer.read(METRICS_BYTES_MAX).decode(errors="replace")
    except (OSError, ValueError) as error:
        yield f"the server at {url}", f"{error}: {metrics}"
        return
    yield from served(f"the server at {url}", text)


def served(subject: str, text: str) -> Iterator[tuple[str, str | None]]:
    """Check a server's metrics: it is a failure if features came in and none went through the arena."""
    figures = figures_of(text)
    if "features_seen" not in figures:
        yield subject, "it shows no figures of the plugin: look for `mmplane:` in its log"
        return
    seen, carried = sum(figures["features_seen"].values()), sum(figures.get("features_carried", {}).values())
    passed_over = {reason: count for reason, count in figures.get("features_passed_over", {}).items() if count}
    why = ", ".join(f"{count:.0f} {reason}" for reason, count in sorted(passed_over.items()))
    subject = f"{subject}: {seen:.0f} features, {carried:.0f} through the arena" + (f", passed over: {why}" * bool(why))
    if not seen:
        yield subject, "no features yet: send it an image"
    elif not carried:
        yield subject, "none went through the arena: see docs for the reasons" if why else "none went through the arena"
    else:
        yield subject, None


def figures_of(text: str) -> dict[str, dict[str, float]]:
    """Return the plugin's metrics by name and by the first label's value (""), summed over other labels."""
    figures: dict[str, dict[str, float]] = {}
    for name, labels, value in re.findall(r"^mmplane_(\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
        found = re.search(r'reason="([^"]*)"', labels)
        by_reason = figures.setdefault(name, {})
        reason = found[1] if found else ""
        by_reason[reason] = by_reason.get(reason, 0.0) + float(value)
    return figures


def entry_point(group: str, name: str, chosen: str | None, variable: str) -> str | None:
    """Whether an engine finds the plugin. `chosen` are the plugins that `variable` names; None: all of them."""
    if not any(point.name == name for point in entry_points(group=group)):
        return "no entry point: install mmplane into this environment"
    if chosen is not None and name not in chosen.split(","):
        return f"{variable} leaves it out: add {name}"
    return None


def makes_the_trip() -> str | None:
    """Send a tensor through a sidecar's arena. Raises whatever the library raises."""
    torch = import_module("torch")  # every engine has torch; the other checks only need the engine
    source = torch.arange(1000, dtype=torch.bfloat16)
    with (
        Sidecar.start(model=None, producers_bytes=ARENA_BYTES) as sidecar,
        sidecar.connect(arena_bytes=ARENA_BYTES) as client,
        closing(Inbox(sidecar.socket)) as inbox,
    ):
        client.wait_ranks()
        with client.put(bytes(32), {"f": source}) as hold:
            arrived = inbox.open(hold.lease()).arrays(torch)["f"]
            return None if torch.equal(arrived, source) else "it arrived changed: please report this"


def _outcome(check: Check) -> str | None:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - it is the answer
        return f"{type(error).__name__}: {error}"
