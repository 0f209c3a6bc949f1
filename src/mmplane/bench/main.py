"""The command `mmplane bench`: measure, print tables, write JSON and a report; or render a JSON again.

mmplane bench --workload photo --delivery all --tp 2 --runner null --json run.json --html run.html
mmplane bench --setting incident --json incident.json
mmplane bench --from run.json another.json --html run.html --markdown results.md
mmplane bench results --help
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from mmplane.arena.memory import memory_available_bytes
from mmplane.bench import results
from mmplane.bench.inputs.incident import incident
from mmplane.bench.inputs.workloads import SEVERAL, WORKLOADS, Workload, from_file
from mmplane.bench.judge.joined import joined
from mmplane.bench.judge.predictions import judged
from mmplane.bench.judge.targets import targets
from mmplane.bench.micro.handover import ROUNDS, peers
from mmplane.bench.micro.vllm_carriers import vllm_peers
from mmplane.bench.report import html_report, markdown, terminal
from mmplane.bench.run import campaign
from mmplane.bench.run.campaign import Options, Outcome, Pools
from mmplane.bench.run.environment import environment
from mmplane.bench.run.progress import Bar
from mmplane.bench.run.server import Refused
from mmplane.bench.run.settings import SETTINGS
from mmplane.bench.run.soak import soak
from mmplane.bench.run.timelines import timelines
from mmplane.config import COUNT_MAX, DELIVERY_NAMES, SECONDS_MAX, Config
from mmplane.delivery.ingress import CHOICES as INGRESS_CHOICES
from mmplane.machine import cores_usable
from mmplane.models.tiny import ensure_tiny
from mmplane.ranges import Range, ranges_of

PEER_BYTES = 31_500_000
"""Features that the peers hand over: what the others' figures in the documents are about."""
ARENA_BYTES_MAX = 4 * 1024**3
TABLE_COLUMNS = 160
"""Where the output is no terminal."""
ARENA_SHARE = 4
"""The arena takes at most one of so many parts of the memory that is free."""


DECIDED = (
    "workload",
    "tp",
    "requests",
    "concurrency",
    "rate",
    "repetitions",
    "tokens",
    "runner",
    "duration",
    "timelines",
)
"""Flags that a setting has its own values for."""


def main(arguments: Sequence[str]) -> int:
    """Run it; 0 only if every row is a result."""
    if arguments[:1] == ["results"]:
        return results.main(arguments[1:])
    parser = options_parser()
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        if options.source is not None:
            runs: list[dict[str, Any]] = [json.loads(source.read_text()) for source in options.source]
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


def _clean(found: dict[str, Any]) -> bool:
    """Whether something was measured, and without errors."""
    if "soak" in found:
        return not found["soak"]["errors"]
    if "timelines" in found:
        return all(request["status"] == 200 for group in found["timelines"] for request in group["requests"])
    return bool(found["rows"]) and all(row["result"] for row in found["rows"])


def written(found: dict[str, Any]) -> str:
    """A run as JSON, each row and sample on a line of its own: a difference of two runs can be read."""

    def value_of(value: Any) -> str:
        if isinstance(value, list) and value:
            return "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
        return json.dumps(value)

    return "{\n" + ",\n".join(f"{json.dumps(name)}: {value_of(value)}" for name, value in found.items()) + "\n}\n"


def options_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="mmplane bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    count, sizes = Range(int, 1, COUNT_MAX), ranges_of(Config)
    names = ", ".join([*WORKLOADS, *SEVERAL, "incident:MS[:BYTES]"])
    add("--setting", choices=SETTINGS, help="run a named table of workloads, paces and ranks instead of those below")
    add("--quick", action="store_true", help="of a setting: its first cases, with few requests")
    add("--workload", default="photo", help=f"names with commas ({names}), or a file of JSON lines")
    add("--delivery", default="all", help="names with commas, or all")
    add("--tp", default="2", help="tensor-parallel ranks; several with commas")
    add(
        "--requests",
        type=count,
        help="requests for each delivery, split over the repetitions (default: the workload's)",
    )
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--concurrency", type=count, help="closed loop: requests under way (default: the workload's)")
    pace.add_argument(
        "--rate", type=Range(float, 0.001, SECONDS_MAX), help="open loop: requests in each second, Poisson"
    )
    add("--runner", default="null", help="null, sim:MILLISECONDS or hf")
    add("--cache", choices=["default", "on", "off", "both"], default="default", help="default: on for arena and auto")
    add("--repetitions", type=count, default=campaign.REPETITIONS, help="interleaved: A B C, B C A, C A B")
    add("--tokens", type=count, help="tokens of each answer (default: the workload's)")
    add(
        "--seed",
        type=Range(int, 0, COUNT_MAX),
        default=0,
        help="of the arrivals, and of what tells one run's media from another's",
    )
    add("--model", default="tiny", help="tiny, or a checkpoint folder")
    add(
        "--arena-bytes",
        type=sizes["arena_bytes"],
        help="the server's (default: a quarter of what is free, at most 4 GiB)",
    )
    add(
        "--workers",
        type=sizes["workers"],
        help="the server's (default: one for each core, and one that clips leave to pictures; 4 for incident)",
    )
    pools = Pools()
    for name, text in (
        ("leader_threads", "the server's: threads of rank 0 that materialise (leader-async)"),
        ("delivery_threads", "the server's: threads of each rank that materialise (delayed-async)"),
    ):
        add(f"--{name.replace('_', '-')}", type=sizes[name], default=getattr(pools, name), help=text)
    add("--feature-hash", choices=["none", "sha256"], default="sha256", help="what the baselines hash features with")
    add("--ingress", choices=INGRESS_CHOICES, default="auto", help="which ranks receive inline bytes: serve's flag")
    add("--peer", action="store_true", help="hand features over by other systems' ways too, in the same run")
    add("--vllm-python", type=Path, help="the Python of an environment with vLLM, for --peer: its ways as well")
    add(
        "--duration",
        type=Range(float, 1, SECONDS_MAX),
        help="a soak: send the workload to the first delivery for so many seconds",
    )
    add("--timelines", action="store_true", help="no figures: the timelines of one request and of ten, by delivery")
    add("--json", type=Path, help="write everything here")
    add("--html", type=Path, help="write the report here: one file, works without a network")
    add("--markdown", type=Path, help="write the tables here, and charts into results/ beside it")
    add("--from", dest="source", type=Path, nargs="+", help="measure nothing: read this JSON, or several as one run")
    return parser


def workloads(names: str) -> list[Workload]:
    """The workloads of these names, or of a file. Raises ValueError."""
    if names not in WORKLOADS and Path(names).is_file():
        return [from_file(Path(names))]
    return [workload for name in names.split(",") for workload in _named(name)]


def _named(name: str) -> list[Workload]:
    if name in SEVERAL:
        return SEVERAL[name]
    workload = WORKLOADS.get(name) or incident(name)
    if workload is None:
        raise ValueError(f"--workload: no such workload or file: {name}")
    return [workload]


def deliveries(names: str) -> tuple[str, ...]:
    """The deliveries of these names. Raises ValueError."""
    found = DELIVERY_NAMES if names == "all" else tuple(names.split(","))
    unknown = [name for name in found if name not in DELIVERY_NAMES]
    if unknown:
        raise ValueError(f"--delivery: no such delivery: {', '.join(unknown)}")
    return found


def _measure(options: argparse.Namespace, arguments: list[str], console: Console) -> dict[str, Any]:
    cases = _cases(options)
    outcome = Outcome()
    more: dict[str, Any] = {}
    stamp = environment(arguments) | {"setting": options.setting}

    def found() -> dict[str, Any]:
        return {"environment": stamp, **msgspec.structs.asdict(outcome), **more}

    with Bar(console) as progress:
        if options.duration:
            workload, tp, how = cases[0]
            more["soak"] = soak(workload, tp, options.duration, how, outcome, progress)
        elif options.timelines:
            workload, tp, how = cases[0]
            more["timelines"] = timelines(workload, tp, how, progress)
        else:
            for workload, tp, how in cases:
                campaign.measure(workload, tp, how, outcome, progress)
                if options.json is not None:  # a setting takes an hour: what is measured is kept whatever comes after
                    options.json.write_text(written(found()))
        if options.peer:
            tps = list(dict.fromkeys(tp for _, tp, _ in cases))
            progress.stage("peers: handing features over", len(tps))
            more["peers"] = peers(PEER_BYTES, tps, tick=progress.tick)
            if options.vllm_python is not None:
                more["peers"] += vllm_peers(options.vllm_python, PEER_BYTES, tps, ROUNDS)
    return found()


def _cases(options: argparse.Namespace) -> list[tuple[Workload, int, Options]]:
    """Workloads with their ranks and how to measure them, one server each. Raises ValueError."""
    how = _how(options)
    if options.setting is None:
        if options.quick:
            raise ValueError("--quick is of a --setting: give one, or fewer --requests")
        return [(workload, tp, how) for workload, tp in product(workloads(options.workload), counts(options.tp))]
    defaults = vars(options_parser().parse_args([]))
    if given := [name for name in DECIDED if getattr(options, name) != defaults[name]]:
        raise ValueError(f"--setting decides --{given[0]} itself: leave it out, or run without a setting")
    setting = SETTINGS[options.setting]
    tp = setting.tp or cores_usable()
    chosen = setting.chosen(quick=options.quick)
    return [(workload, tp, case.options(how)) for case in chosen for workload in workloads(case.workload)]


def _how(options: argparse.Namespace) -> Options:
    return Options(
        deliveries=deliveries(options.delivery),
        model_folder=_model_folder(options.model),
        runner=options.runner,
        requests=options.requests,
        concurrency=options.concurrency,
        rate=options.rate,
        tokens=options.tokens,
        cache={"default": None, "on": (True,), "off": (False,), "both": (False, True)}[options.cache],
        repetitions=options.repetitions,
        seed=options.seed,
        setting=options.setting,
        feature_hash=options.feature_hash,
        ingress=options.ingress,
        pools=Pools(options.workers, options.leader_threads, options.delivery_threads),
        flags=("--arena-bytes", str(_arena_bytes(options))),
    )


def counts(text: str) -> tuple[int, ...]:
    """Numbers of ranks. Raises ValueError."""
    found = text.split(",")
    if not all(re.fullmatch("[1-9][0-9]?", count) for count in found):
        raise ValueError(f"--tp: numbers with commas, not {text}")
    return tuple(map(int, found))


def _arena_bytes(options: argparse.Namespace) -> int:
    return options.arena_bytes or min(ARENA_BYTES_MAX, memory_available_bytes() // ARENA_SHARE)


def _model_folder(model: str) -> str:
    if model == "tiny":
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmplane"
        return str(ensure_tiny(cache))
    if not Path(model).is_dir():
        raise ValueError(f"--model: no such folder: {model}")
    return model
