"""Flags of `mmplane bench`, and the runs that they select."""

from __future__ import annotations

import argparse
import re
from itertools import product
from pathlib import Path

from mmplane.arena.memory import memory_available_bytes
from mmplane.bench.inputs.incident import incident
from mmplane.bench.inputs.workloads import SEVERAL, WORKLOADS, Workload, from_file
from mmplane.bench.remote import Pace
from mmplane.bench.run.settings import REPETITIONS, SETTINGS, Options, Pools
from mmplane.config import COUNT_MAX, DELIVERY_NAMES, SECONDS_MAX, Config
from mmplane.delivery.ingress import CHOICES as INGRESS_CHOICES
from mmplane.machine import cores_usable
from mmplane.models.cached import built_in_folder
from mmplane.parser import Parser, server_url
from mmplane.ranges import Range, ranges_of

ARENA_BYTES_MAX = 4 * 1024**3
ARENA_SHARE = 4
"""The arena takes at most this fraction (1 / ARENA_SHARE) of the free memory."""
COUNT = Range(int, 1, COUNT_MAX)
SIZES = ranges_of(Config)


EXAMPLE = "mmplane bench --workload photo --delivery arena,leader --tp 2 --json run.json --html run.html"
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
"""Flags that a setting determines itself."""


LOCAL = (
    "setting",
    "delivery",
    "tp",
    "runner",
    "cache",
    "repetitions",
    "duration",
    "timelines",
    "peer",
    "html",
    "markdown",
)
"""Flags that have no effect on a server that the bench did not start."""


def options_parser(description: str | None = None) -> argparse.ArgumentParser:
    """Return a parser with all flags."""
    parser = Parser(prog="mmplane bench", description=description, example=EXAMPLE)
    _add_load(parser)
    _add_server(parser)
    _add_output(parser)
    return parser


def _add_load(parser: argparse.ArgumentParser) -> None:
    """Flags about the requests that are sent."""
    group = parser.add_argument_group("requests")
    add = group.add_argument
    names = ", ".join([*WORKLOADS, *SEVERAL, "incident:MS[:BYTES]"])
    add("--setting", choices=SETTINGS, help="run a named set of workloads, paces and ranks instead of the flags below")
    first_case = "with --setting: continue a stopped run with this case, counting from 1"
    add("--first-case", type=COUNT, help=first_case)
    quick = "with --setting: only its first cases, with few requests and without measuring memory"
    add("--quick", action="store_true", help=quick)
    add("--workload", default="photo", help=f"comma-separated names ({names}), or a file of JSON lines")
    add("--delivery", default="all", help="comma-separated names, or all")
    add("--tp", default="2", help="tensor-parallel ranks; several numbers are separated by commas")
    requests = "requests for each delivery, split over the repetitions (default: the workload's)"
    add("--requests", type=COUNT, help=requests)
    pace = group.add_mutually_exclusive_group()
    pace.add_argument("--concurrency", type=COUNT, help="closed loop: concurrent requests (default: the workload's)")
    rate = Range(float, 0.001, SECONDS_MAX)
    pace.add_argument("--rate", type=rate, help="open loop: requests per second, Poisson arrivals")
    add("--runner", default="null", help="null, sim:MILLISECONDS or hf")
    add("--cache", choices=["default", "on", "off", "both"], default="default", help="default: on for arena and auto")
    add("--repetitions", type=COUNT, default=REPETITIONS, help="repetitions, interleaved: A B C, B C A, C A B")
    add("--tokens", type=COUNT, help="tokens per answer (default: the workload's)")
    seed = "seed of the arrival times and of the stamps that make media unique"
    add("--seed", type=Range(int, 0, COUNT_MAX), default=0, help=seed)


def _add_server(parser: argparse.ArgumentParser) -> None:
    """Flags about the server that is measured."""
    add, pools = parser.add_argument_group("server").add_argument, Pools()
    add(
        "--url",
        type=server_url,
        help="measure this running server with OpenAI's API, as its clients see it, instead of starting one",
    )
    add("--served-model", help="the model's name in requests to --url (default: the first in its /v1/models)")
    add("--model", default="tiny", help="tiny, or a checkpoint folder")
    arena = "the server's --arena-bytes (default: a quarter of the free memory, at most 4 GiB)"
    add("--arena-bytes", type=SIZES["arena_bytes"], help=arena)
    workers = "the server's --workers (default: one per core plus one that only takes pictures; 4 for incident)"
    add("--workers", type=SIZES["workers"], help=workers)
    for name, text in (
        ("leader_threads", "threads of rank 0 that materialise (leader-async)"),
        ("delivery_threads", "threads of each rank that materialise (delayed-async)"),
    ):
        add(f"--{name.replace('_', '-')}", type=SIZES[name], default=getattr(pools, name), help=text)
    add("--feature-hash", choices=["none", "sha256"], default="sha256", help="how the baselines hash features")
    ingress = "which ranks receive inline bytes, as in mmplane serve"
    add("--ingress", choices=INGRESS_CHOICES, default="auto", help=ingress)
    peer = "also hand over features with the methods of other systems, in the same run"
    add("--peer", action="store_true", help=peer)
    add("--vllm-python", type=Path, help="with --peer: the Python of an environment with vLLM, to include its methods")


def _add_output(parser: argparse.ArgumentParser) -> None:
    """Flags about the output."""
    add = parser.add_argument_group("output").add_argument
    duration = "soak test: send the workload to the first delivery for this many seconds"
    add("--duration", type=Range(float, 1, SECONDS_MAX), help=duration)
    timelines = "only record the timelines of one request and of ten for each delivery"
    add("--timelines", action="store_true", help=timelines)
    add("--json", type=Path, help="write all measurements to this file")
    add("--html", type=Path, help="write the report to this file, which opens without a network")
    add("--markdown", type=Path, help="write the tables to this file, and charts into results/ beside it")
    add("--from", dest="source", type=Path, nargs="+", help="do not measure: read this JSON, or several as one run")


def workloads(names: str) -> list[Workload]:
    """Return the workloads with these comma-separated names, or the one in a file. Raises ValueError."""
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
    """Return the deliveries with these comma-separated names. Raises ValueError."""
    found = DELIVERY_NAMES if names == "all" else tuple(names.split(","))
    unknown = [name for name in found if name not in DELIVERY_NAMES]
    if unknown:
        raise ValueError(f"--delivery: no such delivery: {', '.join(unknown)}")
    return found


def cases(options: argparse.Namespace) -> list[tuple[Workload, int, Options]]:
    """Return each workload with its number of ranks and its options; each needs one server. Raises ValueError."""
    how = _how(options)
    if options.setting is None:
        if options.quick:
            raise ValueError("--quick needs a --setting; without one, use fewer --requests")
        if options.first_case is not None:
            raise ValueError("--first-case needs a --setting; without one, name the --workload")
        return [(workload, tp, how) for workload, tp in product(workloads(options.workload), counts(options.tp))]
    defaults = vars(options_parser().parse_args([]))
    if given := [name for name in DECIDED if getattr(options, name) != defaults[name]]:
        raise ValueError(f"--setting determines --{given[0]}: omit it, or run without a setting")
    setting = SETTINGS[options.setting]
    tp = setting.tp or cores_usable()
    chosen = setting.chosen(quick=options.quick)[(options.first_case or 1) - 1 :]
    if not chosen:
        raise ValueError(f"--first-case: {options.setting} has no case {options.first_case}")
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
        memory=not options.quick,
        feature_hash=options.feature_hash,
        ingress=options.ingress,
        pools=Pools(options.workers, options.leader_threads, options.delivery_threads),
        flags=("--arena-bytes", str(_arena_bytes(options))),
    )


def paces(options: argparse.Namespace) -> list[tuple[Workload, Pace]]:
    """Return what to send to --url. Flags override the workload's own values. Raises ValueError."""
    defaults = vars(options_parser().parse_args([]))
    if given := [name for name in LOCAL if getattr(options, name) != defaults[name]]:
        flag = given[0].replace("_", "-")
        raise ValueError(f"--{flag} only applies to servers that the bench starts: omit it with --url")
    return [
        (
            workload,
            Pace(
                options.requests or workload.requests,
                options.concurrency or workload.concurrency,
                options.rate or (None if options.concurrency else workload.rate),
                options.tokens or workload.tokens,
                options.seed,
            ),
        )
        for workload in workloads(options.workload)
    ]


def counts(text: str) -> tuple[int, ...]:
    """Parse comma-separated numbers of ranks. Raises ValueError."""
    found = text.split(",")
    if not all(re.fullmatch("[1-9][0-9]?", count) for count in found):
        raise ValueError(f"--tp must be comma-separated numbers, not {text}")
    return tuple(map(int, found))


def _arena_bytes(options: argparse.Namespace) -> int:
    return options.arena_bytes or min(ARENA_BYTES_MAX, memory_available_bytes() // ARENA_SHARE)


def _model_folder(model: str) -> str:
    if model == "tiny":
        return built_in_folder()
    if not Path(model).is_dir():
        raise ValueError(f"--model: no such folder: {model}")
    return model
