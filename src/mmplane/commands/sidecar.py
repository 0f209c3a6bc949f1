"""`mmplane sidecar`: decode, transform and cache media for all processes that attach to one socket."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

from mmplane.arena.errors import OutOfMemory
from mmplane.commands.checkpoint import check_files
from mmplane.commands.checks import check_host, check_memory
from mmplane.commands.keys import read_keyring
from mmplane.commands.model import model_folder, name_of
from mmplane.commands.options import BACKENDS, DECODE_PROFILES, RANGES, SIDECAR_ENCODINGS, Options
from mmplane.commands.place import Place
from mmplane.commands.settings import declared, settle
from mmplane.commands.starting import MEDIA, address, lacking, listen, refuse, release_output, workers_for
from mmplane.config import Config
from mmplane.core.keyring import Keyring
from mmplane.machine import check_kernel, cores_usable
from mmplane.parser import Parser
from mmplane.process import logs
from mmplane.process.descriptors import provide
from mmplane.process.output import Output
from mmplane.process.title import entitle
from mmplane.ranges import Range
from mmplane.supervise import Supervisor
from mmplane.wiring import Wiring

log = logging.getLogger("mmplane")

EXAMPLE = "mmplane sidecar --model ./Qwen2.5-VL-3B-Instruct --socket /run/mmplane.sock --arena-bytes 4GiB"
SESSIONS_MAX = 256
"""The limit on open files grows by twice this number: each session has a socket and a pidfd."""
ARENA_BYTES_MIN = int(RANGES["arena_bytes"].least)
"""Of a sidecar that only carries: features lie in the producers' regions."""
MAKING = ("model", "workers", "arena_bytes", "encoding", "backend", "decode_profile", "http_port", "render_processes")
"""Flags that mean nothing where nothing is made."""
RENDERING = ("pybase64", "starlette", "transformers", "uvicorn", "uvloop")
"""The packages that render processes need in addition to those of all sidecars."""


def add_flags(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Declare all flags, and return those that are settings."""
    options = Options(parser)
    add = options.add
    options.group("model and socket")
    add("--model", "a checkpoint folder (its JSON files suffice), a hub id, or tiny", default="tiny")
    add("--socket", "path of the UNIX socket that processes attach to (mode 0600)", default="mmplane.sock")
    add("--socket-group", "let processes of this group attach too (mode 0660)")
    options.group("memory and workers")
    workers = Range(int, 1, RANGES["workers"].most)
    text = "processes that decode and transform (default: by cores and --arena-bytes)"
    add("--workers", text, default=None, type=workers)
    add("--arena-bytes", "shared memory for media and features, reserved at start")
    add("--producers-bytes", "shared memory for features that clients bring (put, draft), taken when they ask")
    options.group("features")
    add("--encoding", "how features are stored in the arena", choices=SIDECAR_ENCODINGS)
    add("--backend", "whose bits images have: of transformers with Pillow or torchvision", choices=BACKENDS)
    add("--decode-profile", "whose image loader is followed, bit for bit", choices=DECODE_PROFILES)
    options.group("limits")
    add("--budget-bytes", "bytes that media under way may take")
    add("--body-bytes-max", "encoded bytes of one item at most")
    options.group("HTTP")
    add("--metrics-port", "port of http://127.0.0.1:PORT/metrics for Prometheus (0: none)")
    _add_rendering(options)
    options.group("limits")
    add("--item-seconds", "replace a worker if one item takes longer than this")
    add("--video-seconds-max", "how long a clip may be")
    add("--video-pixels-max", "pixels decoded of one clip at most")
    add("--stall-seconds", "how long the keeper or a render process may stand still before it is replaced")
    options.group("how it runs")
    options.add_logging()
    generic = "run transformers' own processor in workers if there is no fast one"
    parser.add_argument("--generic", help=generic, action="store_true")
    carry_only = "only carry features that clients bring; needs no model and no extra"
    parser.add_argument("--carry-only", help=carry_only, action="store_true")
    on_eof = "end when standard input closes (for a parent process)"
    parser.add_argument("--stop-on-eof", help=on_eof, action="store_true")
    return options.actions


def _add_rendering(options: Options) -> None:
    add = options.add
    http_port = "port of POST /v1/chat/completions/render; 0 takes any free one (default: no HTTP)"
    add("--http-port", http_port, default=None, type=RANGES["port"])
    add("--http-host", "address to listen on; any but loopback needs --api-key-file", default="127.0.0.1")
    most = int(RANGES["render_processes"].most)
    add("--render-processes", "processes that render requests (default: 1)", default=None, type=Range(int, 1, most))
    add("--model-id", "the model's name on the vLLM servers behind a router (default: as --model)")
    add("--api-key-file", "a file of KEY and TENANT:KEY lines; every route except /health then needs a key")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = Parser(prog="mmplane sidecar", description=__doc__, example=EXAMPLE)
    table = declared(add_flags(parser))
    given = vars(parser.parse_args(arguments))
    told = {name: given.pop(name) for name in ("generic", "carry_only")}
    if told["carry_only"] and (useless := [name for name in MAKING if name in given]):
        parser.error(f"--carry-only makes nothing: leave out --{useless[0].replace('_', '-')}")
    if given.pop("stop_on_eof"):
        # A launcher ends its child in this way, even one that was started with `&` in a script, which ignores Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        Thread(target=_stop_on_eof, daemon=True).start()
    ignored: list[str] = []
    try:
        settings = {name: each.value for name, each in settle(table, given, os.environ, None, ignored.append).items()}
        settings |= told
        logs.begin(settings["log_format"], settings["log_level"], "sidecar")
        for each in ignored:
            log.warning("%s", each)
        return _run(settings)
    except (ValueError, OSError, OutOfMemory) as error:
        return refuse(error)


def _stop_on_eof() -> None:
    """Do the same as Ctrl-C once nobody can write to standard input any more."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGINT)


def _run(settings: dict[str, Any]) -> int:
    release_output()
    started_s = time.monotonic()
    check_kernel()
    path = Path(settings["socket"])
    keyring = _keyring(settings)
    config = _config(settings, tenants=keyring.tenants)
    if not config.carry_only:
        check_files(config.model_folder)
    if config.metrics_port:  # the keeper takes it once a worker is warm: too late to be told
        listen("127.0.0.1", config.metrics_port, flags="--metrics-port").close()
    http = listen(config.host, config.port, flags="--http-port or --http-host") if config.render_processes else None
    where = f" and http://{address(*http.getsockname()[:2])}" if http else ""
    provide(config.processes() + 2 * SESSIONS_MAX)
    place = Place(path, config.socket_group)
    entitle("mmplane: supervisor")

    def announce() -> None:
        place.take()
        log.info("ready after %.1f s at %s%s", time.monotonic() - started_s, path, where)
        Output(sys.stdout.fileno()).write(f"mmplane sidecar is ready at {path}{where}\n")

    try:
        return Supervisor(config, Wiring(config, keyring, place.listener, http=http), on_serving=announce).run()
    finally:
        place.leave()


def _keyring(settings: dict[str, Any]) -> Keyring:
    """The API keys of a sidecar with HTTP. Raises ValueError for settings that are wrong or have no effect."""
    if settings["http_port"] is None:
        for name in ("render_processes", "model_id", "api_key_file"):
            if settings[name]:
                raise ValueError(f"--{name.replace('_', '-')} needs --http-port")
        return Keyring()
    missing = next((package for package in RENDERING if find_spec(package) is None), None)
    if missing is not None:
        raise ValueError(lacking("sidecar --http-port", missing, "serve"))
    keyring = read_keyring(settings["api_key_file"])
    check_host("--http-host", settings["http_host"], keyed=keyring.tenants > 0)
    return keyring


def _config(settings: dict[str, Any], *, tenants: int) -> Config:
    """The configuration. Raises ValueError."""
    carry_only = settings["carry_only"]
    if not carry_only and (missing := next((each for each in MEDIA if find_spec(each) is None), None)):
        raise ValueError(lacking("sidecar", missing, "media"))
    settings = settings | {"socket": str(Path(settings["socket"]).absolute()), "tenants": tenants}
    host, port = settings.pop("http_host"), settings.pop("http_port")
    if port is None:
        settings["render_processes"] = 0
    else:
        settings |= {"host": host, "port": port, "render_processes": settings["render_processes"] or 1}
    if carry_only:
        settings |= {"workers": 0, "arena_bytes": ARENA_BYTES_MIN}
    elif settings["workers"] is None:
        settings["workers"] = workers_for(cores_usable(), settings["arena_bytes"])
    model = settings["model"]
    if settings["encoding"] == "model":  # no rank states its dtype
        settings["encoding"] = "auto"
    folder = "" if carry_only else model_folder(model)
    config = Config(**settings, kind="sidecar", model_folder=folder, served_name=name_of(model), device="none", tp=1)
    check_memory(config)
    return config
