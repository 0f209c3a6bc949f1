"""`mmplane bench results`: every run of the page again, one command each, and the page with its charts.

A run's JSON stays in the folder until the same run replaces it, so a run that was not repeated keeps its date. Of rows
that several files have the newest counts, so any `mmplane bench --json docs/results/NAME.json` adds to the page.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from mmplane.bench.judge.joined import Found, joined, newest
from mmplane.bench.report import markdown
from mmplane.bench.report.timelines import drawings
from mmplane.parser import Parser

TIMELINES = "incident"
"""The folder of the drawings that docs/incident.md shows."""


WHOLE, PARTS = "whole", ("short", "quick")
"""How much of a run is measured. A part has a file of its own, so that it does not end what the whole has found."""


class Run(msgspec.Struct, frozen=True):
    """Flags of `mmplane bench` for the whole, for half an hour, and for a look. None: not part of that."""

    name: str
    whole: str | None = None
    short: str | None = None
    quick: str | None = None
    minutes: int = 0
    """About how long the whole takes on two cores."""

    def flags(self, effort: str) -> str | None:
        """Those of `whole`, `short` or `quick`; what makes a quick look is part of the short run."""
        return {WHOLE: self.whole, "short": self.short or self.quick, "quick": self.quick}[effort]


TIMELINES_FLAGS = "--timelines --workload incident:500 --tp 4"
_FEW = "--repetitions 1 --tp 4 --workload"
RUNS = (
    Run("incident", "--setting incident", None, "--setting incident --quick", 40),
    Run("cores", "--setting cores", None, "--setting cores --quick", 35),
    Run("oversubscribed", "--setting oversubscribed", None, "--setting oversubscribed --quick", 20),
    Run("timelines", TIMELINES_FLAGS, TIMELINES_FLAGS, None, 3),
    Run("hash", None, f"{_FEW} incident:10:10MB --concurrency 1 --requests 30 --delivery original,leader,eager,arena"),
    Run("crowd", None, f"{_FEW} incident:500:10MB --concurrency 100 --requests 100 "
        "--delivery original,leader,leader-batch,delayed-async,arena"),
    Run("batches", None, f"{_FEW} incident:500:10MB --concurrency 50 --requests 50 "
        "--delivery original,leader,leader-batch,arena"),
    Run("large", None, f"{_FEW} incident:500:90MB --concurrency 10 --requests 10 --delivery original,leader,arena"),
    Run("clips", None, "--workload video-2mb --tp 2 --concurrency 1 --requests 4 --repetitions 1"),
    Run("repeats", "--workload repeat --tp 2 --delivery leader,arena --cache both",
        "--workload repeat:0,repeat:80 --tp 2 --delivery leader --cache both --requests 100 --repetitions 1", None, 8),
    Run("ranks", "--workload photo --delivery arena --tp 1,2,4,8 --requests 192", None, None, 4),
    Run("bytes", "--workload bytes --delivery arena,leader --tp 4 --requests 6", None, None, 5),
    Run("mixed", "--workload mixed --delivery arena --tp 4 --runner sim:20 --requests 96", None, None, 3),
    Run("soak", "--workload mixed --delivery leader-batch --tp 2 --runner sim:20 --duration 600", None, None, 11),
)  # fmt: skip
"""A short run has cases of its own where a whole setting would take an hour; in the whole they are the setting's."""


def main(arguments: Sequence[str]) -> int:
    """Run all, or some, and write the page; 0 only if every command succeeded."""
    options = _parser().parse_args(arguments)
    folder: Path = options.folder / markdown.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for run in RUNS:
        flags = run.flags(options.effort)
        if flags is None or (options.only and run.name not in options.only):
            continue
        began_s = time.monotonic()
        name = run.name if options.effort == WHOLE else f"{run.name}-{options.effort}"
        command = [*shlex.split(flags), "--json", str(folder / f"{name}.json")]
        print(f"mmplane bench {shlex.join(command)}", file=sys.stderr, flush=True)
        done = subprocess.run([sys.executable, "-m", "mmplane", "bench", *command], stdout=sys.stderr, check=False)
        print(f"{run.name}: {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
        if done.returncode != 0:
            failed.append(run.name)
        elif options.effort == WHOLE:
            _forget_parts(folder, f"{run.name}-")
    if options.effort == WHOLE and not options.only and not failed:
        _forget_parts(folder, "")
    write(options.folder)
    if failed:
        print(f"mmplane bench results: with errors, see above: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _forget_parts(folder: Path, prefix: str) -> None:
    """The whole has been measured: what short runs left is not needed any more."""
    for effort in PARTS:
        for path in folder.glob(f"{prefix}*{effort}.json"):
            path.unlink()


def write(folder: Path) -> None:
    """The page of all runs that lie in the folder, and their timelines; charts that it does not show any more go."""
    made = page_of(folder)
    for drawn in (folder / markdown.FOLDER).glob("*.svg"):
        drawn.unlink()
    save(made, folder / "results.md")
    for name, drawing in drawings_of(folder).items():
        (folder / TIMELINES).mkdir(exist_ok=True)
        (folder / TIMELINES / name).write_text(drawing)


def save(page: markdown.Page, path: Path) -> None:
    """The text, and the charts in a folder beside it."""
    folder = path.parent / markdown.FOLDER
    folder.mkdir(exist_ok=True)
    for name, drawn in page.charts.items():
        (folder / name).write_text(drawn)
    path.write_text(page.text)


def page_of(folder: Path) -> markdown.Page:
    """The page of all runs that lie in the folder."""
    return markdown.page(found_of(folder))


def drawings_of(folder: Path) -> dict[str, str]:
    """The timelines of a run that lies in the folder, drawn, by name."""
    return drawings(found_of(folder).get("timelines", []))


def found_of(folder: Path) -> Found:
    """All runs that lie in the folder as one, with the newest of the rows that measure the same."""
    runs = [json.loads(path.read_text()) for path in sorted((folder / markdown.FOLDER).glob("*.json"))]
    if not runs:
        raise ValueError(f"no run has left its JSON in {folder / markdown.FOLDER}")
    return newest(joined(sorted(runs, key=lambda run: str(run["environment"]["at"]), reverse=True)))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="mmplane bench results", description=__doc__)
    names = [run.name for run in RUNS]
    efforts = parser.add_mutually_exclusive_group()
    add = efforts.add_argument
    add("--quick", dest="effort", action="store_const", const="quick", default=WHOLE, help="ten minutes, for a look")
    add("--short", dest="effort", action="store_const", const="short", help="half an hour, for every prediction's row")
    parser.add_argument("--only", nargs="+", choices=names, help="these runs; the others stay as they are")
    parser.add_argument("--folder", type=Path, default=Path("docs"), help="where the page goes, and results/ beside it")
    return parser
