"""A server's or router's look into a Ray cluster: says which machines and replicas there are, and has Ray run on them
what is wanted.

It is a process of its own, since Ray ends its drivers when the cluster's GCS dies. It has a link to its parent and
nothing else of it: no arena, no keys, no sockets. Whatever happens to it, its parent goes on, and another one is
started. So what goes wrong here ends the process, with one line in the log.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from typing import Protocol

from mmplane.process import logs
from mmplane.process.death import die_with_parent
from mmplane.process.title import entitle
from mmplane.ray.address import answers
from mmplane.ray.records import REPLICAS_MAX, FromScout, MachineGone, MachinesWanted, MachineUp, ReplicasAt
from mmplane.ray.wanted import Node, Wanted, decoded, due, encoded, replicas
from mmplane.wire.link import Link, LinkError

log = logging.getLogger("mmplane")

LOOK_S = 2.0
"""Between two looks, and between two attempts to reach the GCS."""
AGAIN_S = 60.0
"""A host that did not stay is started again after this: each start costs its machine 12 s of CPU."""
SEND_LIMIT_S = 5.0
LABEL_MAX = 256


class Cluster(Protocol):
    """What a scout asks of `mmplane.ray.cluster`."""

    def nodes(self) -> list[Node]:
        """Machines that are alive."""

    def hosts(self) -> list[str]:
        """Names of hosts."""

    def wanted(self) -> tuple[Wanted, ...] | None:
        """What the machines should run; None in a new cluster."""

    def want(self, each: tuple[Wanted, ...], /) -> None:
        """Write that down."""

    def start(self, name: str, node: Node, each: Wanted, /) -> None:
        """Have a host started."""

    def end(self, names: Sequence[str], /) -> None:
        """End hosts and what they started."""


class Scout:
    """One look after the other. It knows what it told its parent."""

    def __init__(self, cluster: Cluster, link: Link[MachinesWanted]) -> None:
        self._cluster = cluster
        self._link = link
        self._told: tuple[Wanted, ...] | None = None
        self._nodes: dict[str, Node] = {}
        self._replicas: list[tuple[str, int]] | None = None
        self._tried_s: dict[str, float] = {}

    def look(self, now_s: float) -> None:
        """Tell what has changed, and start and end what differs from what is wanted. Raises LinkError, ValueError."""
        while (received := self._link.receive_nowait()) is not None:
            self._told = decoded(received[0].wanted)
        nodes = {node.id: node for node in self._cluster.nodes()}
        for node in (self._nodes[each] for each in self._nodes.keys() - nodes):
            self._tell(MachineGone(node.address[:LABEL_MAX], node.name[:LABEL_MAX]))
        for node in (nodes[each] for each in nodes.keys() - self._nodes):
            self._tell(MachineUp(node.address[:LABEL_MAX], node.name[:LABEL_MAX]))
        self._nodes = nodes
        if (wanted := self._wanted()) is not None:
            hosts = self._cluster.hosts()
            self._reconcile(wanted, hosts, now_s)
            self._tell_replicas(replicas(wanted, list(nodes.values()), hosts)[:REPLICAS_MAX])

    def _wanted(self) -> tuple[Wanted, ...] | None:
        wanted = self._cluster.wanted()
        if wanted is None and self._told is not None:
            self._cluster.want(self._told)
        elif wanted != self._told:
            self._told = wanted
            self._tell(MachinesWanted(encoded(wanted or ())))
        return self._told

    def _reconcile(self, wanted: tuple[Wanted, ...], hosts: list[str], now_s: float) -> None:
        differs = due(wanted, list(self._nodes.values()), hosts)
        for name, (node, each) in differs.start.items():
            if now_s >= self._tried_s.get(name, -AGAIN_S) + AGAIN_S:
                self._tried_s[name] = now_s
                log.info("%s (%s): starting `mmplane %s` by Ray", node.name, node.address, each.words[0])
                self._cluster.start(name, node, each)
        self._tried_s = {name: at_s for name, at_s in self._tried_s.items() if name in differs.start}
        if differs.end:
            self._cluster.end(differs.end)

    def _tell_replicas(self, found: list[tuple[str, int]]) -> None:
        if found != self._replicas:
            self._replicas = found
            self._tell(ReplicasAt(tuple(found)))

    def _tell(self, record: FromScout) -> None:
        self._link.send(record, limit_s=SEND_LIMIT_S)


def main(arguments: Sequence[str]) -> int:
    """The link's descriptor, the parent's process id, the form and level of the log, and the GCS's address."""
    descriptor, parent, form, level, address = arguments
    die_with_parent(int(parent))
    logs.begin(form, level, "scout")
    entitle("mmplane: scout")
    link: Link[MachinesWanted] = Link(int(descriptor), MachinesWanted)
    try:
        _await(address)
        from mmplane.ray import cluster  # only now: it takes seconds of CPU

        cluster.connect(address)
        scout = Scout(cluster, link)
        while True:
            scout.look(time.monotonic())
            time.sleep(LOOK_S)
    except LinkError:
        return 0
    except Exception as error:  # noqa: BLE001 - Ray raises what it likes
        log.warning("Ray: %s", str(error).strip().partition("\n")[0] or type(error).__name__)
        return 1


def _await(address: str) -> None:
    """Until something listens there."""
    reason = answers(address)
    if reason is not None:
        log.warning("no Ray answers at %s (%s): waiting for it", address, reason)
    while reason is not None:
        time.sleep(LOOK_S)
        reason = answers(address)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
