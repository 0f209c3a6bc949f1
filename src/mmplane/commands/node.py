"""`mmplane worker --ranks`: runs ranks of a server's group on this machine (docs/cluster.md)."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from mmplane.commands.checkpoint import check_checkpoint, check_files
from mmplane.commands.cluster import read_cluster_key
from mmplane.commands.model import model_folder
from mmplane.commands.starting import release_output
from mmplane.config import Config
from mmplane.core.keyring import Keyring
from mmplane.machines.dial import Server
from mmplane.machines.greeting import Refusal
from mmplane.machines.outpost import address_of, name_here
from mmplane.nodes.node import configured, fetch
from mmplane.process.descriptors import provide
from mmplane.process.output import Output
from mmplane.process.title import entitle
from mmplane.supervise import Supervisor
from mmplane.wire.link import LinkError
from mmplane.wiring import Cluster, Wiring

log = logging.getLogger("mmplane")

AGAIN_SECONDS = 2.0
"""Seconds between two attempts to reach the server."""
OWN = ("log_level", "log_format", "join")
WITHOUT = ("join_pin", "workers", "arena_bytes", "budget_bytes", "stall_seconds")
"""Flags of media machines."""


def run(settings: dict[str, Any], given: set[str]) -> int:
    """Run ranks of the server's group. `given` are the settings that are no defaults. Raises ValueError, OSError."""
    release_output()
    started_s = time.monotonic()
    if unused := [name for name in WITHOUT if name in given]:
        raise ValueError(f"--{unused[0].replace('_', '-')} has no effect with --ranks: the server decides")
    if not settings["model"]:
        raise ValueError("--ranks needs --model: the same checkpoint as the server's, on this machine")
    key = read_cluster_key(settings["cluster_key_file"])
    name = (settings["name"] or name_here())[:64]
    theirs = _fetched(Server(address_of(settings["join"]), key), name)
    if theirs.ranks_each != settings["ranks"]:
        raise ValueError(
            f"--ranks is {settings['ranks']} here, and the server's --tp {theirs.tp} with --nodes {theirs.nodes} "
            f"is {theirs.ranks_each} on each machine"
        )
    model = settings["model"]
    own = {each: settings[each] for each in OWN} | {"model": model, "model_folder": model_folder(model)}
    config = configured(theirs, own | {"served_name": name})
    if config.runner == "hf":
        check_checkpoint(config.model_folder, config.tp)
    else:  # nothing is loaded
        check_files(config.model_folder)
    provide(config.processes())
    entitle("mmplane: supervisor")

    def announce() -> None:
        log.info("ready after %.1f s: %d ranks for %s", time.monotonic() - started_s, config.ranks_each, config.join)
        Output(sys.stdout.fileno()).write(f"mmplane worker has joined {config.join}\n")

    return Supervisor(config, Wiring(config, Keyring(), None, cluster=Cluster(key)), on_serving=announce).run()


def _fetched(server: Server, name: str) -> Config:
    """The server's configuration; retry until it can be reached. Raises ValueError if it refuses."""
    while True:
        try:
            return fetch(server, name)
        except Refusal as refusal:
            raise ValueError(str(refusal)) from None
        except (LinkError, OSError) as error:
            why = str(error) or type(error).__name__
            log.warning("%s:%d cannot be reached: %s; trying again", *server.address, why)
        time.sleep(AGAIN_SECONDS)
