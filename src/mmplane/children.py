"""The supervisor's children: which there are and which are missing, how each is started, and what the head is told.

The descriptors that each is given are `mmplane.wiring`. When a child may start again is `mmplane.process.restarts`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import msgspec

from mmplane.config import Config
from mmplane.core.control import (
    Attach,
    Everyone,
    OutOfService,
    RanksGone,
    RanksReady,
    RanksUp,
    Running,
    Spawn,
    WorkerGone,
    WorkerUp,
)
from mmplane.core.records import Record
from mmplane.process.handle import Child
from mmplane.process.spawner import Spawner
from mmplane.wire.group import GroupLinks
from mmplane.wire.link import LinkError, pair
from mmplane.wire.stream import stream_pair
from mmplane.wiring import Descriptors, Wiring

log = logging.getLogger("mmplane")


@dataclass(frozen=True)
class Roles:
    """The children of one kind of supervisor. The `head` keeps the bookkeeping of an epoch, and knows the workers."""

    head: str
    given: Callable[[Wiring], Descriptors]
    """The descriptors of the head."""
    parser: bool = False
    ranks: bool = False
    renews_regions: bool = False
    """Whether processes that are not our children map the regions, so that the next head gets new ones."""


ROLES = {
    "server": Roles("frontend", Wiring.frontend, parser=True, ranks=True),
    "sidecar": Roles("keeper", Wiring.keeper, renews_regions=True),
    "outpost": Roles("outpost", Wiring.outpost, renews_regions=True),
}

SEND_LIMIT_S = 5.0
WORKERS = ("worker", "porter", "parser")
PARSER = 0
"""The parser is handled like a worker: it writes region 0, and is started and replaced like one."""
RANKS = "the group of ranks"

Start = Callable[[], None]
"""Starts a child, or the ranks. Raises OSError, OutOfMemory if the system refuses it, LinkError without a nursery."""


class Children:
    """Those that the nursery has forked, by role and index."""

    def __init__(self, config: Config, wiring: Wiring, nursery: Spawner) -> None:
        self._config = config
        self._wiring = wiring
        self._nursery = nursery
        self._roles = ROLES[config.kind]
        self.head: Child | None = None
        self.workers: dict[int, Child] = {}
        self.ranks: dict[int, Child] = {}
        self.renders: dict[int, Child] = {}
        self._told_out: tuple[str, ...] = ()
        self._told_running: tuple[Running, ...] = ()
        self._ranks_ready: RanksReady | None = None
        self._copy_features = False
        self._attached_epoch = 0
        self._epoch = 0
        self._incarnation = 0

    def all(self) -> list[Child]:
        """Return the children that there are, the head first."""
        front = [self.head] if self.head else []
        return [*front, *self.workers.values(), *self.ranks.values(), *self.renders.values()]

    def missing(self) -> Iterator[tuple[str, Start]]:
        """Yield the name of each child that should be there and is not, and what starts it; the ranks only together.

        Without a head, end what the last one has left: no region is written before every worker of its epoch is gone.
        """
        config = self._config
        if self.head is None:
            for worker in self.workers.values():
                worker.handle.kill()
            if not self.workers:
                yield self._roles.head, self._start_head
        else:
            if self._roles.parser and PARSER not in self.workers:
                yield "parser", self._start_parser
            for index in range(1, config.workers + config.join_max + 1):
                if index not in self.workers:
                    role = "worker" if index <= config.workers else "porter"
                    yield f"{role} {index}", partial(self._start_worker, index, role)
        for index in range(1, config.render_processes + 1):
            if index not in self.renders:
                yield f"render {index}", partial(self._start_render, index)
        if self._roles.ranks and not self.ranks:
            yield RANKS, self._start_ranks

    def gone(self, child: Child) -> None:
        """Forget a child that has ended, and tell the head. The other ranks of its group end with a rank."""
        if child is self.head:
            self.head = None
        elif child.role == "render":
            del self.renders[child.index]
        elif child.role in WORKERS:
            del self.workers[child.index]
            self.tell(self.head, WorkerGone(child.index, child.handle.incarnation))
        else:
            del self.ranks[child.index]
            self._copy_features |= child.probing and child.stacks.crashed  # not for one that was killed in the meantime
            for peer in self.ranks.values():
                peer.handle.kill()
            if not self.ranks:
                self._ranks_ready = None
                self._attached_epoch = 0
                self.tell(self.head, RanksGone(child.handle.incarnation))

    def ranks_are_ready(self, record: RanksReady) -> None:
        """Note that the group has loaded the model."""
        self._ranks_ready = record
        for rank in self.ranks.values():
            rank.ready, rank.probing = True, False
            rank.heard()

    def attach_ranks(self) -> None:
        """Give head and leader a link to each other, as soon as both are ready and once for each two of them."""
        ready = self._ranks_ready
        if self.head is None or not self.head.ready or ready is None or self._attached_epoch == self._epoch:
            return
        if len(self.ranks) < self._config.tp:  # a group whose leader has died is still ending
            return
        link, leaders_link = pair()
        stream, leaders_stream = stream_pair()
        with link, leaders_link, stream, leaders_stream:
            leader = self.ranks[0]
            self.tell(leader, Attach(self._epoch), leaders_link.fileno(), leaders_stream.fileno())
            up = RanksUp(leader.handle.incarnation, ready.kv_tokens, ready.dtype)
            self.tell(self.head, up, link.fileno(), stream.fileno())
        self._attached_epoch = self._epoch

    def tell_who_is_out(self, out: tuple[str, ...]) -> None:
        """Tell the head which are out of service, if that has changed."""
        if self.head is not None and out != self._told_out:
            self._told_out = out
            self.tell(self.head, OutOfService(out))

    def tell_who_runs(self) -> None:
        """Tell the head of all processes, if one has started or ended."""
        nursery = [Running("nursery", 0, self._nursery.handle.pid)] if self._nursery.handle else []
        children = (Running(child.role, child.index, child.handle.pid) for child in self.all())
        running = (Running("supervisor", 0, os.getpid()), *nursery, *children)
        if self.head is not None and running != self._told_running:
            self._told_running = running
            self.tell(self.head, Everyone(running))

    def tell(self, child: Child | None, record: Record, *descriptors: int) -> None:
        """Send a record to a child, if it is there. One that does not read its messages is killed."""
        if child is None:
            return
        try:
            child.link.send(record, descriptors, limit_s=SEND_LIMIT_S)
        except LinkError:
            log.warning("%s does not read its messages; killing it", child)
            child.handle.kill()

    def _start_head(self) -> None:
        if self._roles.renews_regions and self._epoch:
            self._wiring.renew_regions()
        self._epoch += 1
        self._told_out = ()
        self._told_running = ()
        self.head = self._spawn(self._roles.head, 0, 1, self._roles.given(self._wiring))

    def _start_parser(self) -> None:
        self._start_beside_head("parser", PARSER, 1, self._wiring.parser())

    def _start_worker(self, index: int, role: str) -> None:
        given = self._wiring.porter(index) if role == "porter" else self._wiring.worker(index)
        self._start_beside_head(role, index, self._config.workers, given)

    def _start_beside_head(self, role: str, index: int, of: int, given: Descriptors) -> None:
        ours, theirs = pair()
        with ours, theirs:
            self.workers[index] = child = self._spawn(role, index, of, {"frontend": theirs.fileno(), **given})
            self.tell(self.head, WorkerUp(index, child.handle.incarnation), ours.fileno())

    def _start_render(self, index: int) -> None:
        self.renders[index] = self._spawn("render", index, self._config.render_processes, self._wiring.render())

    def _start_ranks(self) -> None:
        tp = self._config.tp
        self._incarnation += 1
        store = os.memfd_create("mmplane-store", os.MFD_CLOEXEC)
        try:
            with closing(GroupLinks(tp)) as links:
                for rank in range(tp):
                    given = {"store": store, **links.of(rank), **self._wiring.rank()}
                    self.ranks[rank] = self._spawn("rank", rank, tp, given, self._incarnation)
        finally:
            os.close(store)

    def _spawn(self, role: str, index: int, of: int, descriptors: Descriptors, incarnation: int | None = None) -> Child:
        if incarnation is None:
            self._incarnation += 1
            incarnation = self._incarnation
        config = msgspec.msgpack.encode(msgspec.structs.replace(self._config, copy_features=self._copy_features))
        spawn = Spawn(incarnation, role, index, of, incarnation, self._epoch, config, ())
        return self._nursery.spawn(spawn, descriptors)
