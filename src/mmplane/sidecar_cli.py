"""`mmplane sidecar`: decode, transform and cache media for all processes that attach to one socket."""

from __future__ import annotations

import argparse
import grp
import importlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, get_args

import msgspec

from mmplane.arena.errors import OutOfMemory
from mmplane.cli import model_folder, workers_for
from mmplane.config import Config
from mmplane.core.keyring import Keyring
from mmplane.core.records import BackendName
from mmplane.machine import cores_usable
from mmplane.process import logs
from mmplane.process.descriptors import provide
from mmplane.process.output import Output, release
from mmplane.ranges import ranges_of
from mmplane.settings import declared, settle
from mmplane.supervise import Supervisor

log = logging.getLogger("mmplane")

RANGES = ranges_of(Config)
SESSIONS_MAX = 256
"""As many files again as there may be sessions: a socket and a handle each."""
_ENCODING = {"auto": "auto", "model": "auto", "float32": "float32", "uint8": "uint8"}
"""No rank says what it computes in, so `model` has nothing to follow."""


def options_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(prog="mmplane sidecar", description=__doc__)
    defaults = {field.name: field.default for field in msgspec.structs.fields(Config)}

    def add(flag: str, text: str, **more: Any) -> None:
        name = flag.removeprefix("--").replace("-", "_")
        options: Any = {"default": defaults.get(name), "type": RANGES.get(name, str), **more}
        parser.add_argument(flag, help=text, **options)

    add("--model", "a checkpoint folder (its JSON files suffice), a hub id, or tiny", default="tiny")
    add("--socket", "path of the UNIX socket that processes attach to (mode 0600)", default="mmplane.sock")
    add("--socket-group", "let processes of this group attach too (mode 0660)")
    add("--workers", "processes that decode and transform (default: by cores and --arena-bytes)", default=None)
    add("--arena-bytes", "shared memory for media and features, reserved at start")
    add("--producers-bytes", "shared memory for features that clients bring (put, draft), taken when they ask")
    add("--encoding", "how features lie in the arena", choices=["auto", "float32", "model", "uint8"])
    add(
        "--backend", "whose bits images have: of transformers with Pillow or torchvision", choices=get_args(BackendName)
    )
    add("--budget-bytes", "bytes that media under way may take")
    add("--body-bytes-max", "encoded bytes of one item at most")
    add("--metrics-port", "port of http://127.0.0.1:PORT/metrics for Prometheus (0: none)")
    add("--item-seconds", "how long one item may take before its worker is replaced")
    add("--stall-seconds", "how long the keeper may stand still before it is replaced")
    add("--log-level", "how much to log", choices=["debug", "info", "warning", "error"])
    add("--log-format", "text, or a JSON object in each line", choices=["text", "json"])
    parser.add_argument(
        "--stop-on-eof", help="end when standard input ends: for a launcher's child", action="store_true"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = options_parser()
    table = declared(action for action in parser._actions if action.dest not in ("help", "stop_on_eof"))
    given = vars(parser.parse_args(arguments))
    if given.pop("stop_on_eof"):
        Thread(target=_stop_on_eof, daemon=True).start()
    ignored: list[str] = []
    try:
        settings = {name: each.value for name, each in settle(table, given, os.environ, None, ignored.append).items()}
        logs.begin(settings["log_format"], settings["log_level"], "sidecar")
        for each in ignored:
            log.warning("%s", each)
        return _run(settings)
    except (ValueError, OSError, OutOfMemory) as error:
        print(f"mmplane: {error}", file=sys.stderr)
        return 2


def _stop_on_eof() -> None:
    """As Ctrl-C does, once nobody can write to standard input any more."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGINT)


def _run(settings: dict[str, Any]) -> int:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            release(stream.fileno())
    started_s = time.monotonic()
    path = Path(settings.pop("socket"))
    config = _config(settings)
    provide(config.processes() + 2 * SESSIONS_MAX)
    place = Place(path, config.socket_group)
    importlib.import_module("setproctitle").setproctitle("mmplane: supervisor")

    def announce() -> None:
        place.take()
        log.info("ready after %.1f s at %s", time.monotonic() - started_s, path)
        Output(sys.stdout.fileno()).write(f"mmplane sidecar is ready at {path}\n")

    try:
        return Supervisor(config, place.listener, Keyring(), on_serving=announce).run()
    finally:
        place.leave()


def _config(settings: dict[str, Any]) -> Config:
    if settings["workers"] is None:
        settings["workers"] = workers_for(cores_usable(), settings["arena_bytes"])
    if not settings["workers"]:
        raise ValueError("--workers must be at least 1")
    model = settings["model"]
    settings["encoding"] = _ENCODING[settings["encoding"]]
    config = Config(
        **settings, kind="sidecar", model_folder=model_folder(model), served_name=model, device="none", tp=1
    )
    if min(config.region_bytes()) < 1024 * 1024:
        raise ValueError("--arena-bytes is too small: each region needs at least 1 MiB")
    return config


class Place:
    """The socket's path. It is bound under another name, and gets its own once the sidecar is ready.

    So a path that exists and accepts is a sidecar that works; one that a killed sidecar has left is replaced. Raises
    ValueError when another one serves there.
    """

    def __init__(self, path: Path, group: str) -> None:
        self._path = path
        self._bound = path.with_name(f"{path.name}.{os.getpid()}")
        if _is_served(path):
            raise ValueError(f"--socket: another sidecar serves at {path}")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mask = os.umask(0o177)
        try:
            self.listener.bind(str(self._bound))
        except OSError as error:
            raise ValueError(f"--socket: cannot bind {path}: {error.strerror}") from None
        finally:
            os.umask(mask)
        if group:
            os.chown(self._bound, -1, _group_id(group))
            self._bound.chmod(0o660)
        self._inode = self._bound.stat().st_ino

    def take(self) -> None:
        """The sidecar is ready."""
        self._bound.rename(self._path)

    def leave(self) -> None:
        """The sidecar has ended. A successor's socket stays."""
        self.listener.close()
        for path in (self._bound, self._path):
            with suppress(OSError):
                if path.stat().st_ino == self._inode:
                    path.unlink()


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as end:
        try:
            end.connect(str(path))
        except OSError:
            return False
        return True


def _group_id(name: str) -> int:
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise ValueError(f"--socket-group: there is no group {name}") from None
