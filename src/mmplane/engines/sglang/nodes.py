"""Several nodes (`--nnodes`): the first one's launcher is the producer, and each other launcher has a mirror.

SGLang pickles features to every rank there. With mirrors they cross the network once per node, and a message only has
their record. All nodes need the same key; where it is missing, the plugin is off.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from typing import Any

from mmplane.engines.kit.mirrored import Mirrored
from mmplane.engines.kit.producer import Producer
from mmplane.engines.kit.room import pictures
from mmplane.engines.kit.sidecar import Place, Stoppable
from mmplane.engines.sglang.plugin import known
from mmplane.engines.sglang.settings import arena_bytes
from mmplane.engines.sglang.topology import Topology
from mmplane.machines.dial import Server
from mmplane.machines.key_file import read_key
from mmplane.ray.address import host_and_port
from mmplane.wire.private import check_private

log = logging.getLogger("mmplane")

KEY_VARIABLE = "MMPLANE_SGLANG_CLUSTER_KEY_FILE"
JOIN_VARIABLE = "MMPLANE_SGLANG_JOIN"
"""HOST:PORT of the first node, where mirrors join; by default beside `--dist-init-addr`."""
PORTS_AFTER = 50
"""The default port is so many after that of `--dist-init-addr`. SGLang itself uses the ports just after it."""


def uncovered(options: Mapping[str, Any]) -> str | None:
    """Return why a server with these options stays on SGLang's own path, if it has several nodes."""
    if options["nnodes"] == 1:
        return None
    if not os.environ.get(KEY_VARIABLE):
        return f"several nodes share no memory, and mirrors need {KEY_VARIABLE}"
    if (options.get("tokenizer_worker_num") or 1) > 1:
        return "several tokenizers are not covered with several nodes"
    if not (options.get("dist_init_addr") or os.environ.get(JOIN_VARIABLE)):
        return f"without --dist-init-addr, mirrors need {JOIN_VARIABLE}"
    return None


def begin(variable: str, options: Mapping[str, Any]) -> Stoppable:
    """Start this node's part, and publish its place. Raises ValueError, OutOfMemory, OSError."""
    key = read_key(KEY_VARIABLE, os.environ[KEY_VARIABLE])
    host, port = address_of(options)
    check_private(host)
    groups = Topology.of(options).groups
    if options["node_rank"] > 0:
        mirrored = Mirrored(Server((host, port), key))
        Place("", groups, board=mirrored.board.path).publish(variable)
        return mirrored
    total_bytes = arena_bytes()
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        producer = Producer(listener, key, groups=groups, arena_bytes=total_bytes)
    except BaseException:
        listener.close()
        raise
    Place("", groups, board=producer.board.path).publish(variable)
    log.info("mmplane: processor: off: it is not covered with several nodes")
    log.info(
        "mmplane: on: SGLang %s; %d MiB of arena, room for %d pictures of 1288x966; %d nodes, whose mirrors join at "
        "%s:%d, ranks in groups of %s",
        known(),
        *(total_bytes >> 20, pictures(total_bytes), options["nnodes"], host, port, "+".join(map(str, groups))),
    )
    return producer


def address_of(options: Mapping[str, Any]) -> tuple[str, int]:
    """The address of the first node where mirrors join. Raises ValueError, and OSError for an unknown name."""
    if given := os.environ.get(JOIN_VARIABLE):
        host, port = host_and_port(given, JOIN_VARIABLE)
    else:
        host, port = host_and_port(str(options["dist_init_addr"]).removeprefix("tcp://"), "--dist-init-addr")
        port += PORTS_AFTER if port + PORTS_AFTER < 2**16 else -PORTS_AFTER
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return str(found[0][4][0]), port
