"""`mmplane worker --ranks`: runs ranks of a server's group on this machine (docs/cluster.md)."""

from __future__ import annotations

import logging
import sys
import time
from functools import partial
from typing import Any

from mmplane.commands.checkpoint import check_checkpoint, check_files
from mmplane.commands.cluster import fetched, read_cluster_key
from mmplane.commands.model import model_folder
from mmplane.commands.starting import release_output
from mmplane.core.keyring import Keyring
from mmplane.machines.dial import Server
from mmplane.machines.outpost import address_of, name_here
from mmplane.nodes.node import configured, fetch
from mmplane.process.descriptors import provide
from mmplane.process.output import Output
from mmplane.process.title import entitle
from mmplane.supervise import Supervisor
from mmplane.wiring import Cluster, Wiring

log = logging.getLogger("mmplane")

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
    server = Server(address_of(settings["join"]), key)
    theirs = fetched(server, partial(fetch, server, name))
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
