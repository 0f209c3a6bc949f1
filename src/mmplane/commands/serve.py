"""`mmplane serve`: resolves the configuration once, opens the listening socket, starts the supervisor."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from mmplane.arena.errors import OutOfMemory
from mmplane.arena.memory import memory_available_bytes
from mmplane.commands.checkpoint import check_checkpoint, check_files
from mmplane.commands.checks import check_nodes, check_server
from mmplane.commands.cluster import JOIN_MAX_DEFAULT, cluster_of
from mmplane.commands.devices import check_gpus, gpus_visible, placed
from mmplane.commands.keys import read_keyring
from mmplane.commands.model import model_folder, name_of
from mmplane.commands.options import ENCODINGS, RANGES, Options, RefuseKey
from mmplane.commands.settings import Declared, declared, near_flags, printed, settle
from mmplane.commands.starting import (
    address,
    embeddings_for,
    kv_bytes_for,
    listen,
    refuse,
    release_output,
    workers_for,
)
from mmplane.commands.welcome import welcome
from mmplane.config import DELIVERY_NAMES, Config
from mmplane.delivery.ingress import CHOICES
from mmplane.machine import check_kernel, check_temporary_folder, cores_usable
from mmplane.machines.pin import pin_of_file
from mmplane.parser import Parser
from mmplane.process import logs
from mmplane.process.descriptors import provide
from mmplane.process.output import Output
from mmplane.process.title import entitle
from mmplane.supervise import Supervisor
from mmplane.wiring import Wiring

log = logging.getLogger("mmplane")

CONFIG_VARIABLE = "MMPLANE_CONFIG"
DESCRIPTION = "Serve a vision-language model over HTTP, with OpenAI's API. Defaults are in brackets."
EPILOG = """Each flag is also a variable (MMPLANE_TP=4) and a line of --config (tp = 4). Flags win, then variables.
Sizes are bytes, or have a unit: 512MiB is 2**29, 1GB is 10**9.
"""
EXAMPLE = "mmplane serve --model ./Qwen2.5-VL-3B-Instruct --tp 2 --arena-bytes 2GiB --api-key-file keys --host 0.0.0.0"
ON_OFF = ("on", "off")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    parser = Parser(
        prog="mmplane serve",
        usage="mmplane serve [flags]",
        description=DESCRIPTION,
        epilog=EPILOG,
        example=EXAMPLE,
    )
    table = declared(add_flags(parser))
    parser.add_argument("--api-key", nargs="?", action=RefuseKey, help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args(arguments)
    if rest:
        hint = near_flags(rest[0], table) if rest[0].startswith("-") else "; name a model with --model"
        parser.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    return _serve(table, vars(options))


def add_flags(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Declare all flags in the order of `docs/flags.md`, and return those that are settings."""
    options = Options(parser)
    _add_model(options)
    _add_delivery(options)
    _add_memory(options)
    _add_machines(options)
    _add_limits(options)
    _add_clients(options)
    _add_running(options)
    parser.add_argument("--config", help="a TOML file of these settings; flags and MMPLANE_... variables override it")
    parser.add_argument(
        "--print-config", help="print all settings and where each comes from", action="store_true", default=None
    )
    return options.actions


def _add_model(options: Options) -> None:
    options.group("model and address")
    add = options.add
    add("--model", "tiny (built in), a local checkpoint folder, or a hub id", default="tiny")
    names = "model names that requests use; the first is shown (default: tiny, or the folder's name)"
    add("--served-model-name", names, action="extend", nargs="+", default=[])
    add("--tp", "tensor-parallel ranks; 1 if the machine has one GPU", aliases=["-tp", "--tensor-parallel-size"])
    add("--host", "address to listen on; any but loopback needs --api-key-file")
    add("--port", "port to listen on; 0 takes any free one")


def _add_delivery(options: Options) -> None:
    options.group("how features reach the ranks")
    add = options.add
    add("--delivery", "how features reach the ranks", choices=DELIVERY_NAMES)
    add("--cache", "keep features for later requests (auto: only in the arena)", choices=["auto", *ON_OFF])
    add("--cache-bytes", "features that each rank may keep, for deliveries other than arena")
    add("--materialise", "whether an eager delivery decodes in the front end", choices=["eager", "lazy"])
    add("--delivery-threads", "threads of each rank that materialise in the background (delayed-async)")
    add("--leader-threads", "threads of rank 0 that materialise in the background (leader-async)")
    add("--ingress", "which ranks receive inline bytes (auto: as the delivery needs)", choices=CHOICES)
    add("--feature-hash", "how features are hashed, by all deliveries except arena", choices=["none", "sha256"])
    add(
        "--rollback-on",
        "end a trial of a delivery automatically: errors, p99, or both separated by a comma",
        default="",
    )
    nodes = "machines with ranks, each with the same number: see `mmplane worker --ranks`"
    add("--nodes", nodes, default=1, type=RANGES["nodes"])
    add("--fault-injection", "let requests carry faults (for tests)", choices=ON_OFF, default="off")


def _add_memory(options: Options) -> None:
    options.group("memory and workers")
    add = options.add
    add("--encoding", "how features are stored in the arena", choices=ENCODINGS)
    add("--arena-bytes", "shared memory for media and features, reserved at start")
    add("--budget-bytes", "memory for requests in flight before they reach the arena")
    workers = "processes that decode and transform media (default: by cores and --arena-bytes, at least 2)"
    add("--workers", workers, default=None)
    keys = "cache memory of each rank for keys, values and states (default: 1 GiB, or what a GPU has left)"
    add("--kv-bytes", keys, aliases=["--kv-cache-memory-bytes"], default=None)
    reserve = "free memory of each GPU, after the weights are loaded, that keys, values and states do not take"
    add("--gpu-reserve-bytes", reserve)
    embeddings = "memory in which each rank keeps encoder outputs for later requests (default: by available memory)"
    add("--embedding-cache-bytes", embeddings, default=None)
    prefix = "reuse what an earlier request with the same beginning has computed"
    add("--prefix-cache", prefix, choices=ON_OFF, default="on")


def _add_machines(options: Options) -> None:
    options.group("media machines")
    add = options.add
    join_port = "port on which media machines join, see `mmplane worker`; 0 takes any free one (default: none may join)"
    add("--join-port", join_port, default=None, type=RANGES["port"])
    add("--join-host", "address of that port", default="127.0.0.1")
    add(
        "--join-max",
        "media machines that may join, each with an equal share of --arena-bytes",
        default=JOIN_MAX_DEFAULT,
    )
    add("--cluster-key-file", "file with the secret shared with media machines; only its owner may read it", default="")
    add("--join-cert-file", "PEM with a certificate and its key: media machines join by TLS", default="")
    ray = "HOST:PORT of a Ray cluster that runs media machines, see `mmplane ray`: those that come later run them too"
    add("--ray", ray, default="")


def _add_limits(options: Options) -> None:
    options.group("limits")
    add = options.add
    add("--running-max", "samples that decode together", aliases=["--max-num-seqs"])
    add("--queue-max", "requests that may wait beyond that; more get 503")
    add("--prefill-tokens", "most prompt tokens in one step")
    add("--stall-seconds", "replace a rank or the front end that makes no progress for this long")
    add("--compute-stall-seconds", "replace the ranks if one step, or encoding one item, takes longer than this")
    add("--load-seconds", "time limit for loading the model")
    add("--request-seconds", "time limit for a request's first token; after it the request gets 503")
    add("--item-seconds", "replace a worker if one item takes longer than this")
    add("--drain-seconds", "how long SIGTERM waits for running requests")
    add("--images-max", "images, clips and sounds in one request")
    add("--video-frames-max", "most frames taken from one clip, whatever the model or a request asks for")
    add("--video-seconds-max", "how long a clip may be")
    add("--video-pixels-max", "most pixels decoded from one clip; earlier or fewer frames are taken to stay below it")
    add("--body-bytes-max", "largest request body")


def _add_clients(options: Options) -> None:
    options.group("what clients may send")
    add, several = options.add, {"action": "append", "default": []}
    embeddings = "let requests contain image embeddings, as safetensors, instead of images"
    add("--accept-embeddings", embeddings, choices=ON_OFF, default="off")
    add("--allow-host", "another host name of this server, for the Host header (repeat)", **several)
    origin = "a site whose pages may use /v1, as https://chat.example.com (repeat; *: any)"
    add("--allow-origin", origin, **several)
    add("--root-path", "the path under which a proxy publishes this server, as /models", default="")
    add("--open-route", "a route that needs no API key: /ping, /ready, /version or /metrics (repeat)", **several)
    add(
        "--trusted-proxy",
        "a proxy's address or network, exempt from the limit of connections per client (repeat)",
        **several,
    )
    add("--fetch-host", "a host that media URLs may point to (repeat; default: none, only data URIs)", **several)
    add("--fetch-network", "a private network in which those hosts may be (repeat)", **several)
    root = "the folder from which file: URLs may read"
    add("--media-root", root, aliases=["--allowed-local-media-path"], default="")
    add("--context-tokens-max", "longest prompt plus answer (0: the model's)", aliases=["--max-model-len"])


def _add_running(options: Options) -> None:
    options.group("how it runs")
    add = options.add
    add("--device", "where ranks compute", choices=["auto", "cpu", "cuda"])
    add("--runner", "what ranks compute with: hf (the model), or for measurements null or sim:MILLISECONDS")
    add("--decoder", "how media is decoded: real, or for measurements sim:MILLISECONDS:BYTES")
    add("--api-key-file", "a file of KEY and TENANT:KEY lines; every route except /health then needs a key")
    add("--model-id", "the model's name on the vLLM servers behind a router, for /render (default: as --model)")
    add("--trace-to", "where to send traces: an OTLP receiver's URL, or file:PATH (default: nowhere)")
    options.add_logging()


def resolve(given: dict[str, Any], *, tenants: int = 0) -> Config:
    """The configuration for these settings, with `tenants` API key owners. Raises ValueError with what to change."""
    given = dict(given)
    model = given["model"]
    name, *more_names = given.pop("served_model_name") or [name_of(model)]
    nodes = given["nodes"]
    if given["workers"] is None:
        given["workers"] = workers_for(cores_usable(), given["arena_bytes"])
    if given.get("join_port") is None or nodes > 1:
        given["join_max"] = 0
    gpus, tp_given = gpus_visible(os.environ), given.pop("tp_given", True)
    given["device"], given["tp"] = placed(
        given["device"], given["tp"], tp_given=tp_given or nodes > 1, gpus=gpus * nodes
    )
    check_gpus(given["device"], given["tp"] // nodes, gpus=gpus)
    if given["kv_bytes"] is None:
        given["kv_bytes"] = kv_bytes_for(given["device"], given["runner"])
    if given["embedding_cache_bytes"] is None:
        given["embedding_cache_bytes"] = embeddings_for(memory_available_bytes(), max(1, given["tp"] // nodes))
    for flag, plural in _PLURALS.items():
        given[plural] = tuple(given.pop(flag))
    given["rollback_on"] = tuple(filter(None, given["rollback_on"].split(",")))
    for flag in ("fault_injection", "accept_embeddings", "prefix_cache"):
        given[flag] = given[flag] == "on"
    names = {field.name for field in msgspec.structs.fields(Config)}
    config = Config(
        **{key: value for key, value in given.items() if key in names},
        model_folder=model_folder(model),
        served_name=name,
        more_names=tuple(more_names),
        tenants=tenants,
    )
    check_server(config)
    return config


_PLURALS = {
    "allow_host": "allow_hosts",
    "allow_origin": "allow_origins",
    "open_route": "open_routes",
    "trusted_proxy": "trusted_proxies",
    "fetch_host": "fetch_hosts",
    "fetch_network": "fetch_networks",
}
"""Flags that may be repeated, and the fields that hold all their values."""


def _serve(table: dict[str, Declared], flags: dict[str, Any]) -> int:
    ignored: list[str] = []
    try:
        path = flags["config"] or os.environ.get(CONFIG_VARIABLE)
        settings = settle(table, flags, os.environ, path, ignored.append)
    except ValueError as error:
        return refuse(error)
    logs.begin(settings["log_format"].value, settings["log_level"].value, "supervisor")
    for each in ignored:
        log.warning("%s", each)
    if flags["print_config"]:
        print(printed(settings), end="")
        return 0
    values = {name: setting.value for name, setting in settings.items()}
    return _run(values | {"tp_given": settings["tp"].source != "default"})


def _run(given: dict[str, Any]) -> int:
    release_output()
    started_s = time.monotonic()
    try:
        check_kernel()
        check_temporary_folder()
        log.info("preparing the model %s", given["model"])
        keyring = read_keyring(given["api_key_file"])
        config = resolve(given, tenants=keyring.tenants)
        check_nodes(config, given)
        if config.runner == "hf":
            check_checkpoint(config.model_folder, config.tp)
        else:  # nothing is loaded
            check_files(config.model_folder)
        provide(config.processes())
        listener = listen(config.host, config.port)
        cluster = cluster_of(given)
    except (ValueError, OSError) as error:
        return refuse(error)
    entitle("mmplane: supervisor")
    url = "http://" + address(*listener.getsockname()[:2])
    if cluster is not None and cluster.listener is not None:
        tls = f" with --join-pin {pin_of_file(cluster.certificate)}" if cluster.certificate else ""
        who = "machines with ranks" if config.nodes > 1 else "media machines"
        log.info("%s join at %s%s", who, address(*cluster.listener.getsockname()[:2]), tls)
    log.info("listening on %s; loading %s for %d ranks (%s)", url, config.served_name, config.tp, config.device)

    def announce() -> None:
        text = welcome(url, config.served_name, after_s=time.monotonic() - started_s, keyed=bool(keyring))
        Output(sys.stdout.fileno()).write(text + "\n")

    try:
        wiring = Wiring(config, keyring, listener, cluster=cluster)
        supervisor = Supervisor(config, wiring, on_serving=announce, ray=cluster.ray if cluster else "")
    except (ValueError, OSError, OutOfMemory) as error:
        return refuse(error)
    return supervisor.run()
