"""`mmplane bench results`: repeat all runs of the results page, one command each, and write the page with its charts.

A run's JSON stays in the folder until the same run replaces it, so a run that was not repeated keeps its date. If
several files contain the same row, the newest one counts, so any `mmplane bench --json docs/results/NAME.json` adds to
the page.
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

FRONT_ENDS = "front-ends.json"
"""Written by `benchmarks/front_ends.py`, which `mmplane bench` cannot run: it needs the engines' environments."""
TIMELINES = "incident"
"""The folder of the drawings that docs/incident.md shows."""


WHOLE, PARTS = "whole", ("short", "quick")
"""How much of a run is measured. A part has its own file, so that it does not overwrite the results of the whole."""


class Run(msgspec.Struct, frozen=True):
    """Flags of `mmplane bench` for the whole run, the short run and the quick run. None: not part of it."""

    name: str
    whole: str | None = None
    short: str | None = None
    quick: str | None = None
    minutes: int = 0
    """Approximate duration of the whole run on two cores."""

    def flags(self, effort: str) -> str | None:
        """Return the flags for `whole`, `short` or `quick`. A short run includes the quick runs."""
        return {WHOLE: self.whole, "short": self.short or self.quick, "quick": self.quick}[effort]


TIMELINES_FLAGS = "--timelines --workload incident:500 --tp 4"
_FEW = "--repetitions 1 --tp 4 --workload"
RUNS = (
    Run("incident", "--setting incident", None, "--setting incident --quick", 65),
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
"""A short run has its own cases instead of settings that would take an hour; the whole runs the settings."""


def main(arguments: Sequence[str]) -> int:
    """Run all commands, or some, and write the page. Return 0 only if every command succeeded."""
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
        print(f"mmplane bench results: these runs failed, see above: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _forget_parts(folder: Path, prefix: str) -> None:
    """Delete the JSON of short and quick runs, which the whole run replaces."""
    for effort in PARTS:
        for path in folder.glob(f"{prefix}*{effort}.json"):
            path.unlink()


def write(folder: Path) -> None:
    """Write the page and the timelines of all runs in the folder, and delete charts that are no longer shown."""
    made = page_of(folder)
    for drawn in (folder / markdown.FOLDER).glob("*.svg"):
        drawn.unlink()
    save(made, folder / "results.md")
    for name, drawing in drawings_of(folder).items():
        (folder / TIMELINES).mkdir(exist_ok=True)
        (folder / TIMELINES / name).write_text(drawing)


def save(page: markdown.Page, path: Path) -> None:
    """Write the text, and the charts into a folder beside it."""
    folder = path.parent / markdown.FOLDER
    folder.mkdir(exist_ok=True)
    for name, drawn in page.charts.items():
        (folder / name).write_text(drawn)
    path.write_text(page.text)


def page_of(folder: Path) -> markdown.Page:
    """Return the page of all runs in the folder."""
    front_ends = folder / FRONT_ENDS
    return markdown.page(found_of(folder), json.loads(front_ends.read_text()) if front_ends.exists() else None)


def drawings_of(folder: Path) -> dict[str, str]:
    """Return the drawings of the timelines in the folder, by file name."""
    return drawings(found_of(folder).get("timelines", []))


def found_of(folder: Path) -> Found:
    """Join all runs in the folder; of rows that measure the same, keep the newest."""
    runs = [json.loads(path.read_text()) for path in sorted((folder / markdown.FOLDER).glob("*.json"))]
    if not runs:
        raise ValueError(f"there is no JSON of a run in {folder / markdown.FOLDER}")
    return newest(joined(sorted(runs, key=lambda run: str(run["environment"]["at"]), reverse=True)))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mmplane bench results", description=__doc__, example="mmplane bench results --quick --folder build"
    )
    names = [run.name for run in RUNS]
    efforts = parser.add_mutually_exclusive_group()
    add = efforts.add_argument
    add("--quick", dest="effort", action="store_const", const="quick", default=WHOLE, help="ten minutes, few cases")
    add("--short", dest="effort", action="store_const", const="short", help="half an hour, a row for every prediction")
    parser.add_argument("--only", nargs="+", choices=names, help="repeat only these runs and keep the others' results")
    place = "folder for the page; charts and JSON go into results/ in it"
    parser.add_argument("--folder", type=Path, default=Path("docs"), help=place)
    return parser
