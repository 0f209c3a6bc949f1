"""`mmplane worker`: makes features on this machine's CPUs for a server on another one (docs/cluster.md)."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from mmplane.arena.errors import OutOfMemory
from mmplane.arena.memory import memory_available_bytes
from mmplane.commands import node
from mmplane.commands.checks import check_memory
from mmplane.commands.cluster import fetched, read_cluster_key
from mmplane.commands.options import RANGES, Options
from mmplane.commands.settings import declared, settle
from mmplane.commands.starting import arena_for, refuse, release_output, workers_for
from mmplane.config import Config
from mmplane.core.keyring import Keyring
from mmplane.machine import cores_usable
from mmplane.machines.assignment import configured, keep
from mmplane.machines.dial import Server, fetch
from mmplane.machines.outpost import address_of, name_here
from mmplane.machines.pin import checked
from mmplane.machines.records import Assignment, Files
from mmplane.parser import Parser
from mmplane.process import logs
from mmplane.process.descriptors import provide
from mmplane.process.output import Output
from mmplane.process.title import entitle
from mmplane.ranges import Range
from mmplane.supervise import RENEWED, Supervisor
from mmplane.wiring import Cluster, Wiring

log = logging.getLogger("mmplane")

EXAMPLE = "mmplane worker --join 10.0.0.1:7000 --cluster-key-file key --arena-bytes 4GiB"
OWN = ("workers", "arena_bytes", "budget_bytes", "stall_seconds", "log_level", "log_format", "join", "join_pin")


def add_flags(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Add all flags of the command. Each is also a setting."""
    options = Options(parser)
    add = options.add
    options.group("the server")
    add("--join", "the server's --join-host and --join-port, as HOST:PORT", default="")
    shared = "the secret that this machine shares with the server; readable only by its owner"
    add("--cluster-key-file", shared, default="")
    pin = "use TLS: SHA-256 of the server's certificate, from the server's log (default: no TLS)"
    add("--join-pin", pin, default="")
    add("--name", "name of this machine in the server's log (default: its host name)", default="")
    options.group("memory and workers")
    workers = Range(int, 1, RANGES["workers"].most)
    add("--workers", "processes that decode and transform (default: one for each core)", default=None, type=workers)
    add(
        "--arena-bytes",
        "shared memory for media and features (default: by cores and free memory)",
        default=None,
    )
    add("--budget-bytes", "memory for decoded media in flight")
    add("--stall-seconds", "replace an outpost that makes no progress for this long")
    options.group("ranks instead of workers")
    ranks = "ranks of the server's group that run here, if it was started with --nodes (default: none)"
    add("--ranks", ranks, default=0, type=Range(int, 0, RANGES["tp"].most))
    add("--model", "with --ranks: the server's checkpoint on this machine, as in `mmplane serve`", default="")
    options.group("how it runs")
    options.add_logging()
    return options.actions


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. If the server serves another model than before, start again."""
    parser = Parser(prog="mmplane worker", description=__doc__, example=EXAMPLE)
    table = declared(add_flags(parser))
    given = vars(parser.parse_args(arguments))
    ignored: list[str] = []
    try:
        settled = settle(table, given, os.environ, None, ignored.append)
        settings = {name: each.value for name, each in settled.items()}
        logs.begin(settings["log_format"], settings["log_level"], "outpost")
        for each in ignored:
            log.warning("%s", each)
        if settings["ranks"]:
            code = node.run(settings, {name for name, each in settled.items() if each.source != "default"})
        else:
            code = _run(settings)
    except (ValueError, OSError, OutOfMemory) as error:
        return refuse(error)
    if code == RENEWED:
        log.info("the server now serves something else: loading that")
        again = sys.argv[1:] if arguments is None else ["worker", *arguments]
        os.execv(sys.executable, [sys.executable, "-m", "mmplane", *again])  # noqa: S606 - this command, with its own arguments
    return code


def _run(settings: dict[str, Any]) -> int:
    release_output()
    started_s = time.monotonic()
    key = read_cluster_key(settings["cluster_key_file"])
    name = settings["name"] or name_here()
    settings["join_pin"] = checked(settings["join_pin"]) if settings["join_pin"] else ""
    server = Server(address_of(settings["join"]), key, settings["join_pin"])
    assignment, files = fetched(server, partial(fetch, server, name))
    config = _config(settings, name, assignment, files)
    provide(config.processes())
    entitle("mmplane: supervisor")

    def announce() -> None:
        seconds = time.monotonic() - started_s
        log.info("ready after %.1f s: %d workers for %s", seconds, config.workers, config.join)
        Output(sys.stdout.fileno()).write(f"mmplane worker has joined {config.join}\n")

    wiring = Wiring(config, Keyring(), None, cluster=Cluster(key))
    return Supervisor(config, wiring, on_serving=announce).run()


def _config(settings: dict[str, Any], name: str, assignment: Assignment, files: Files) -> Config:
    """The configuration. Raises ValueError, OSError."""
    cores = cores_usable()
    if settings["arena_bytes"] is None:
        settings["arena_bytes"] = arena_for(cores, memory_available_bytes())
    if settings["workers"] is None:
        settings["workers"] = workers_for(cores, settings["arena_bytes"], cores_each=1)
    own = {each: settings[each] for each in OWN} | {"served_name": name[:64]}
    config = configured(assignment, keep(files), own)
    check_memory(config)
    return config
