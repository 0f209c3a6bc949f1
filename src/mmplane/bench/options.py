"""What `mmplane bench` is asked to do: its flags, and the runs that they mean."""

from __future__ import annotations

import argparse
import os
import re
from itertools import product
from pathlib import Path

from mmplane.arena.memory import memory_available_bytes
from mmplane.bench.inputs.incident import incident
from mmplane.bench.inputs.workloads import SEVERAL, WORKLOADS, Workload, from_file
from mmplane.bench.remote import Pace
from mmplane.bench.run import campaign
from mmplane.bench.run.campaign import Options, Pools
from mmplane.bench.run.settings import SETTINGS
from mmplane.config import COUNT_MAX, DELIVERY_NAMES, SECONDS_MAX, Config
from mmplane.delivery.ingress import CHOICES as INGRESS_CHOICES
from mmplane.machine import cores_usable
from mmplane.models.tiny import ensure_tiny
from mmplane.parser import Parser, server_url
from mmplane.ranges import Range, ranges_of

ARENA_BYTES_MAX = 4 * 1024**3
ARENA_SHARE = 4
"""The arena takes at most one of so many parts of the memory that is free."""
COUNT = Range(int, 1, COUNT_MAX)
SIZES = ranges_of(Config)


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
"""Flags that mean nothing where the server is somebody else's."""


def options_parser(description: str | None = None) -> argparse.ArgumentParser:
    """The flags."""
    parser = Parser(prog="mmplane bench", description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    _add_load(parser)
    _add_server(parser)
    _add_output(parser)
    return parser


def _add_load(parser: argparse.ArgumentParser) -> None:
    """What is sent, and how often."""
    add = parser.add_argument
    names = ", ".join([*WORKLOADS, *SEVERAL, "incident:MS[:BYTES]"])
    add("--setting", choices=SETTINGS, help="run a named table of workloads, paces and ranks instead of those below")
    add("--quick", action="store_true", help="of a setting: its first cases, with few requests, without memory")
    add("--workload", default="photo", help=f"names with commas ({names}), or a file of JSON lines")
    add("--delivery", default="all", help="names with commas, or all")
    add("--tp", default="2", help="tensor-parallel ranks; several with commas")
    requests = "requests for each delivery, split over the repetitions (default: the workload's)"
    add("--requests", type=COUNT, help=requests)
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--concurrency", type=COUNT, help="closed loop: requests under way (default: the workload's)")
    rate = Range(float, 0.001, SECONDS_MAX)
    pace.add_argument("--rate", type=rate, help="open loop: requests in each second, Poisson")
    add("--runner", default="null", help="null, sim:MILLISECONDS or hf")
    add("--cache", choices=["default", "on", "off", "both"], default="default", help="default: on for arena and auto")
    add("--repetitions", type=COUNT, default=campaign.REPETITIONS, help="interleaved: A B C, B C A, C A B")
    add("--tokens", type=COUNT, help="tokens of each answer (default: the workload's)")
    seed = "of the arrivals, and of what tells one run's media from another's"
    add("--seed", type=Range(int, 0, COUNT_MAX), default=0, help=seed)


def _add_server(parser: argparse.ArgumentParser) -> None:
    """What is measured."""
    add, pools = parser.add_argument, Pools()
    add(
        "--url",
        type=server_url,
        help="measure this server of OpenAI's API instead of starting one: as its clients see it",
    )
    add("--served-model", help="what requests to --url call the model (default: the first of its /v1/models)")
    add("--model", default="tiny", help="tiny, or a checkpoint folder")
    arena = "the server's (default: a quarter of what is free, at most 4 GiB)"
    add("--arena-bytes", type=SIZES["arena_bytes"], help=arena)
    workers = "the server's (default: one for each core, and one that clips leave to pictures; 4 for incident)"
    add("--workers", type=SIZES["workers"], help=workers)
    for name, text in (
        ("leader_threads", "the server's: threads of rank 0 that materialise (leader-async)"),
        ("delivery_threads", "the server's: threads of each rank that materialise (delayed-async)"),
    ):
        add(f"--{name.replace('_', '-')}", type=SIZES[name], default=getattr(pools, name), help=text)
    add("--feature-hash", choices=["none", "sha256"], default="sha256", help="what the baselines hash features with")
    add("--ingress", choices=INGRESS_CHOICES, default="auto", help="which ranks receive inline bytes: serve's flag")
    add("--peer", action="store_true", help="hand features over by other systems' ways too, in the same run")
    add("--vllm-python", type=Path, help="the Python of an environment with vLLM, for --peer: its ways as well")


def _add_output(parser: argparse.ArgumentParser) -> None:
    """What is wanted of it."""
    add = parser.add_argument
    duration = "a soak: send the workload to the first delivery for so many seconds"
    add("--duration", type=Range(float, 1, SECONDS_MAX), help=duration)
    add("--timelines", action="store_true", help="no figures: the timelines of one request and of ten, by delivery")
    add("--json", type=Path, help="write everything here")
    add("--html", type=Path, help="write the report here: one file, works without a network")
    add("--markdown", type=Path, help="write the tables here, and charts into results/ beside it")
    add("--from", dest="source", type=Path, nargs="+", help="measure nothing: read this JSON, or several as one run")


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


def cases(options: argparse.Namespace) -> list[tuple[Workload, int, Options]]:
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
        memory=not options.quick,
        feature_hash=options.feature_hash,
        ingress=options.ingress,
        pools=Pools(options.workers, options.leader_threads, options.delivery_threads),
        flags=("--arena-bytes", str(_arena_bytes(options))),
    )


def paces(options: argparse.Namespace) -> list[tuple[Workload, Pace]]:
    """What to send to --url: what a workload says where nothing else is asked for. Raises ValueError."""
    defaults = vars(options_parser().parse_args([]))
    if given := [name for name in LOCAL if getattr(options, name) != defaults[name]]:
        raise ValueError(f"--{given[0].replace('_', '-')} is of servers that the bench starts: leave it out with --url")
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
