"""The command `mmplane bench`: measure, print tables, write JSON and a report; or render a JSON again.

mmplane bench --workload photo --delivery all --tp 2 --runner null --json run.json --html run.html
mmplane bench --setting incident --json incident.json
mmplane bench --url http://127.0.0.1:30000 --workload photo,mixed --concurrency 8
mmplane bench --from run.json another.json --html run.html --markdown results.md
mmplane bench results --help
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mmplane.bench import remote, results
from mmplane.bench.judge.joined import joined
from mmplane.bench.judge.predictions import judged
from mmplane.bench.judge.targets import targets
from mmplane.bench.options import cases, options_parser, paces
from mmplane.bench.report import html_report, markdown, terminal
from mmplane.bench.run.environment import environment
from mmplane.bench.run.progress import Bar
from mmplane.bench.run.server import Refused
from mmplane.parser import check_writable

TABLE_COLUMNS = 160
"""Used if the output is not a terminal."""


def main(arguments: Sequence[str]) -> int:
    """Run the command. Return 0 only if every row is a result."""
    if arguments[:1] == ["results"]:
        return results.main(arguments[1:])
    options = options_parser(__doc__).parse_args(arguments)
    console = Console(stderr=True)
    try:
        check_outputs(options)
        if options.url is not None:
            return _remote(options, list(arguments), console)
        if options.source is not None:
            runs: list[dict[str, Any]] = [_read(source) for source in options.source]
        else:
            runs = [_measure(options, list(arguments), console)]
    except (OSError, ValueError, Refused) as error:
        print(f"mmplane bench: {error}", file=sys.stderr)
        return 2
    found = joined(runs)
    out = Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS)
    for table in terminal.tables(found["rows"]):
        out.print(table)
    out.print(terminal.verdicts(judged(found)))
    out.print(terminal.judgements(targets(found)))
    for text in terminal.notes(found):
        out.print(text, markup=False)
    if options.json is not None:
        options.json.write_text(written(found))
    if options.html is not None:
        options.html.write_text(html_report.page(found))
    if options.markdown is not None:
        results.save(markdown.page(found), options.markdown)
    return 0 if _clean(found) else 1


def _read(path: Path) -> dict[str, Any]:
    """Read the JSON of an earlier run. Raises ValueError."""
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"--from: {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"--from: {path} is not the JSON of a run: {error}") from None
    if not isinstance(found, dict) or "rows" not in found:
        raise ValueError(f"--from: {path} is not the JSON of a run: it has no rows")
    return found


def _remote(options: argparse.Namespace, arguments: list[str], console: Console) -> int:
    """Measure a server that is already running. Return 1 if a request failed."""
    rows = []
    with Bar(console) as progress:
        for workload, pace in paces(options):
            progress.stage(f"{workload.name}: {options.url}", pace.requests)
            rows.append(remote.measure(options.url, options.served_model, workload, pace, progress.tick))
    Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS).print(terminal.remote(rows))
    if options.json is not None:
        options.json.write_text(written({"environment": environment(arguments), "rows": rows}))
    return 1 if any(row["errors"] for row in rows) else 0


def _clean(found: dict[str, Any]) -> bool:
    """Whether anything was measured, and without errors."""
    if "soak" in found:
        return not found["soak"]["errors"]
    if "timelines" in found:
        return all(request["status"] == 200 for group in found["timelines"] for request in group["requests"])
    return bool(found["rows"]) and all(row["result"] for row in found["rows"])


def written(found: dict[str, Any]) -> str:
    """Return a run as JSON with each row and sample on its own line, so that runs can be diffed."""

    def value_of(value: Any) -> str:
        if isinstance(value, list) and value:
            return "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
        return json.dumps(value)

    return "{\n" + ",\n".join(f"{json.dumps(name)}: {value_of(value)}" for name, value in found.items()) + "\n}\n"


def _measure(options: argparse.Namespace, arguments: list[str], console: Console) -> dict[str, Any]:
    parts = cases(options)
    from mmplane.bench.measuring import measure  # torch and transformers: a wrong flag is told before they are loaded

    def keep(found: dict[str, Any]) -> None:
        """A setting takes an hour: what is measured is kept whatever comes after."""
        if options.json is not None:
            options.json.write_text(written(found))

    stamp = environment(arguments) | {"setting": options.setting}
    with Bar(console) as progress:
        return measure(options, parts, stamp, keep, progress)


def check_outputs(options: argparse.Namespace) -> None:
    """What is measured for an hour can be written. Raises ValueError."""
    for flag in ("json", "html", "markdown"):
        path: Path | None = getattr(options, flag)
        if path is not None:
            check_writable(f"--{flag}", path)
