"""`mmplane ray`: media machines and replicas on the machines of a Ray cluster (docs/cluster.md).

    mmplane ray up --address 10.0.0.1:6379 --join 10.0.0.1:9100 --cluster-key-file /etc/mmplane/cluster.key
    mmplane ray up --address 10.0.0.1:6379 --replicas 2 --tp 4 --flags "--model /models/Qwen2.5-VL-3B"
    mmplane ray status --address 10.0.0.1:6379
    mmplane ray down --address 10.0.0.1:6379

Run it on a machine of the cluster. `up` has Ray run `mmplane worker` on every machine but the server's, or `mmplane
serve` on as many as --replicas says. `down` ends all of it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmplane.commands.options import DEFAULTS, RANGES, Options
from mmplane.commands.settings import declared, settle
from mmplane.commands.starting import refuse
from mmplane.parser import Parser
from mmplane.ranges import Range
from mmplane.ray.address import host_and_port
from mmplane.ray.checks import Cluster, survives_gcs
from mmplane.ray.wanted import MACHINES_MAX, Standing, Wanted, due, host_name, node_of, replaced

if TYPE_CHECKING:
    from types import ModuleType

EXAMPLE = "mmplane ray up --address 10.0.0.1:6379 --join 10.0.0.1:9100 --cluster-key-file cluster.key"
ACTIONS = ("up", "status", "down")
NO_REPLICAS = (
    "--replicas: Ray ends what it started a minute after its GCS has died, and this cluster's GCS does not come back: "
    "keep it in Redis (Ray: GCS fault tolerance), or start the servers by systemd or Kubernetes and give their "
    "addresses to `mmplane route`"
)


def add_flags(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """All of them; each is a setting."""
    options = Options(parser)
    add = options.add
    add("--address", "the GCS of the Ray cluster, as HOST:PORT", default="127.0.0.1:6379")
    add("--join", "media machines: the server's --join-host and --join-port, as HOST:PORT", default="")
    add("--cluster-key-file", "the secret that the server has too, at the same path on every machine", default="")
    add("--join-pin", "SHA-256 of the server's certificate, as its log says it: TLS (default: none)", default="")
    add(
        "--media-per-node",
        "processes on each machine that decode and transform (0: one for each core)",
        type=Range(int, 0, 1024),
        default=0,
    )
    servers = "servers, each on a machine of its own; needs GCS fault tolerance"
    add("--replicas", servers, type=Range(int, 0, MACHINES_MAX), default=0)
    add("--tp", "ranks of each of these servers", default=1)
    add("--flags", "further flags of `mmplane worker`, or of `mmplane serve`, as one text", default="")
    return options.actions


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = Parser(prog="mmplane ray", description=__doc__, example=EXAMPLE)
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    table = declared(add_flags(parser))
    given = vars(parser.parse_args(arguments))
    action = given.pop("action")
    try:
        return _act(action, {name: each.value for name, each in settle(table, given, os.environ, None).items()})
    except ValueError as error:
        return refuse(error)


def wanted_of(settings: dict[str, Any]) -> Wanted:
    """What `up` asks for. Raises ValueError with what to change."""
    if bool(settings["join"]) == bool(settings["replicas"]):
        raise ValueError("mmplane ray up: give either --join for media machines, or --replicas")
    more = shlex.split(settings["flags"])
    if settings["replicas"]:
        words = ("serve", "--tp", str(settings["tp"]), *more)
        return Wanted("replica", words, settings["replicas"], port=_port_of(more))
    if not settings["cluster_key_file"]:
        raise ValueError("media machines need --cluster-key-file, the same file at the same path on all machines")
    host, _ = host_and_port(settings["join"], "--join")
    key = str(Path(settings["cluster_key_file"]).absolute())
    words = ("worker", "--join", settings["join"], "--cluster-key-file", key)
    if settings["join_pin"]:
        words += ("--join-pin", settings["join_pin"])
    if settings["media_per_node"]:
        words += ("--workers", str(settings["media_per_node"]))
    return Wanted("media", (*words, *more), without=_resolved(host))


def _port_of(flags: Sequence[str]) -> int:
    """On which servers with these flags listen. Raises ValueError."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--port", type=RANGES["port"], default=DEFAULTS["port"])
    try:
        return int(parser.parse_known_args(flags)[0].port)
    except argparse.ArgumentError as error:
        raise ValueError(f"--flags: {error}") from None


def _resolved(host: str) -> str:
    """The server's address, as Ray knows its machine. Raises ValueError."""
    try:
        return str(socket.getaddrinfo(host, None)[0][4][0])
    except OSError as error:
        raise ValueError(f"--join: {host} is not known here ({error.strerror})") from None


def _act(action: str, settings: dict[str, Any]) -> int:
    host_and_port(settings["address"], "--address")
    new = wanted_of(settings) if action == "up" else None
    from mmplane.ray import cluster  # it imports Ray, which --help does without

    cluster.connect(settings["address"])
    if action == "down":
        cluster.want(())
        hosts = cluster.hosts()
        cluster.end(hosts)
        print(f"ended on {len(hosts)} machines")
        return 0
    if new is not None:
        _up(cluster, new)
    return _status(cluster, wait=action == "up")


def _up(cluster: ModuleType, new: Wanted) -> None:
    if new.kind == "replica":
        machines = [each for each in cluster.facts() if not isinstance(each, str)]
        if not survives_gcs(Cluster(tuple(machines))):
            raise ValueError(NO_REPLICAS)
    wanted = replaced(cluster.wanted() or (), new)
    cluster.want(wanted)
    nodes = cluster.nodes()
    differs = due(wanted, nodes, cluster.hosts())
    cluster.end(differs.end)
    for name, (node, each) in differs.start.items():
        cluster.start(name, node, each)
    if not any(host_name(new, node) in {*differs.start, *cluster.hosts()} for node in nodes):
        print("no machine of the cluster can run it yet", file=sys.stderr)


def _status(cluster: ModuleType, *, wait: bool) -> int:
    """Print how each host does; the exit code: 1 when one does not say."""
    names = {node.id: f"{node.name} ({node.address})" for node in cluster.nodes()}
    limit_s = cluster.START_LIMIT_S if wait else cluster.ANSWER_LIMIT_S
    troubles = 0
    for host, found in sorted(cluster.standings(cluster.hosts(), limit_s).items()):
        troubles += isinstance(found, str)
        print(f"{names.get(node_of(host), 'a machine that is gone'):40} {host.partition('-')[0]:8} {said(found)}")
    return 1 if troubles else 0


def said(found: Standing | str) -> str:
    """How a host does, for people."""
    if isinstance(found, str):
        return f"does not answer: {found}"
    ends = found.starts - bool(found.pid)
    ended = f", ended {ends} times, last with {found.last_code}" if ends else ""
    return f"runs for {found.up_s:.0f} s (pid {found.pid}){ended}" if found.pid else f"waits to start again{ended}"
