"""The supervisor's children: which there are and which are missing, how each is started, and what the head is told.

The descriptors that each is given are `mmplane.wiring`. When a child may start again is `mmplane.process.restarts`.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial

import msgspec
from msgspec.structs import replace

from mmplane.config import Config
from mmplane.core.control import (
    Attach,
    Ends,
    Everyone,
    Meeting,
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
from mmplane.process.handed import hand_over
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
    workers: bool = True
    ranks: bool = False
    renews_regions: bool = False
    """Whether processes that are not our children map the regions, so that the next head gets new ones."""


ROLES = {
    "server": Roles("frontend", Wiring.frontend, parser=True, ranks=True),
    "sidecar": Roles("keeper", Wiring.keeper, renews_regions=True),
    "outpost": Roles("outpost", Wiring.outpost, renews_regions=True),
    "node": Roles("node", Wiring.node, workers=False, ranks=True, renews_regions=True),
}

SEND_LIMIT_S = 5.0
WORKERS = ("worker", "porter", "parser")
PARSER = 0
"""The parser is handled like a worker: it writes region 0, and is started and replaced like one."""
RANKS = "the group of ranks"
GROUP = ("rank", "stand-in")
"""They are replaced together."""

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
        self.stand_ins: dict[int, Child] = {}
        """By machine; they stand for the ranks of the others."""
        self._meeting: Meeting | None = None
        """Where the ranks of this group meet, if it is one over machines and has started, or has to."""
        self.renders: dict[int, Child] = {}
        self._told_out: tuple[str, ...] = ()
        self._told_running: tuple[Running, ...] = ()
        self._ranks_ready: RanksReady | None = None
        self._copy_features = False
        self._attached_epoch = 0
        self._epoch = 0
        self._incarnation = 0
        self._group = 0
        """The incarnation of the ranks that there are, or were last."""

    def all(self) -> list[Child]:
        """Return the children that there are, the head first."""
        front = [self.head] if self.head else []
        group = (*self.ranks.values(), *self.stand_ins.values())
        return [*front, *self.workers.values(), *group, *self.renders.values()]

    def missing(self) -> Iterator[tuple[str, Start]]:
        """Yield the name of each child that should be there and is not, and what starts it; the ranks only together.

        Without a head, end what the last one has left: no region is written before every worker of its epoch is gone.
        """
        config = self._config
        if self.head is None:
            left = [*self.workers.values(), *(self.ranks.values() if self._is_node else ())]
            for child in left:
                child.handle.kill()
            if not left:
                yield self._roles.head, self._start_head
        elif self._roles.workers:
            if self._roles.parser and PARSER not in self.workers:
                yield "parser", self._start_parser
            for index in range(1, config.workers + config.join_max + 1):
                if index not in self.workers:
                    role = "worker" if index <= config.workers else "porter"
                    yield f"{role} {index}", partial(self._start_worker, index, role)
        for index in range(1, config.render_processes + 1):
            if index not in self.renders:
                yield f"render {index}", partial(self._start_render, index)
        if not self._is_node and not self.ranks and self._meeting is None:
            for machine in range(1, config.nodes):
                if machine not in self.stand_ins:
                    yield f"stand-in {machine}", partial(self._start_stand_in, machine)
        if self._roles.ranks and not self.ranks and self._may_meet():
            yield RANKS, self._start_ranks

    def gone(self, child: Child) -> None:
        """Forget a child that has ended, and tell the head. The other ranks of its group end with a rank."""
        if child is self.head:
            self.head = None
            if self._is_node:
                self._meeting = None
        elif child.role == "render":
            del self.renders[child.index]
        elif child.role in WORKERS:
            del self.workers[child.index]
            self.tell(self.head, WorkerGone(child.index, child.handle.incarnation))
        elif child.role == "stand-in" and self._meeting is None:  # its machine was lost before the group started
            del self.stand_ins[child.index]
        else:
            del (self.stand_ins if child.role == "stand-in" else self.ranks)[child.index]
            self._copy_features |= child.probing and child.stacks.crashed  # not for one that was killed in the meantime
            left = (*self.ranks.values(), *self.stand_ins.values())
            for peer in left:
                peer.handle.kill()
            if not left:
                self._meeting = None
                self._ranks_ready = None
                self._attached_epoch = 0
                self.tell(self.head, RanksGone(self._group))

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
        if self.group_lacks_some:  # a group whose leader has died is still ending
            return
        link, leaders_link = pair()
        stream, leaders_stream = stream_pair()
        with link, leaders_link, stream, leaders_stream:
            leader = self.ranks[0]
            self.tell(leader, Attach(self._epoch), leaders_link.fileno(), leaders_stream.fileno())
            up = RanksUp(leader.handle.incarnation, ready.kv_tokens, ready.dtype)
            mirrors = [self._attached(stand_in) for _, stand_in in sorted(self.stand_ins.items())]
            self.tell(self.head, up, link.fileno(), stream.fileno(), *(mirror.fileno() for mirror in mirrors))
            for mirror in mirrors:
                mirror.close()
        self._attached_epoch = self._epoch

    @property
    def group_lacks_some(self) -> bool:
        """Whether not all of the group's processes on this machine are there."""
        return len(self.ranks) < self._config.ranks_each or len(self.stand_ins) < self._stand_ins_wanted

    def meet(self, meeting: Meeting) -> None:
        """The server of this node starts its group."""
        self._meeting = meeting

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

    def _start_stand_in(self, machine: int) -> None:
        with self._wiring.listen() as bulk:
            given = self._wiring.stand_in(bulk)
            self.stand_ins[machine] = self._spawn("stand-in", machine, self._config.nodes, given)

    def _attached(self, stand_in: Child) -> socket.socket:
        """The front end's end of a new link to a stand-in."""
        ours, theirs = pair()
        with theirs:
            self.tell(stand_in, Attach(self._epoch), theirs.fileno())
        return ours

    @property
    def _is_node(self) -> bool:
        return self._config.kind == "node"

    @property
    def _stand_ins_wanted(self) -> int:
        return 0 if self._is_node else self._config.nodes - 1

    def _may_meet(self) -> bool:
        """Whether the group's other machines are there. A node's group starts when its server says so."""
        if self._is_node:
            return self.head is not None and self._meeting is not None
        ready = sum(stand_in.ready for stand_in in self.stand_ins.values())
        return ready == self._stand_ins_wanted and self._meeting is None

    def _start_ranks(self) -> None:
        try:
            self._start_group()
        except BaseException:
            if not self.ranks and not self._is_node:  # its other machines have not been told
                self._meeting = None
            raise

    def _start_group(self) -> None:
        tp, nodes = self._config.tp, self._config.nodes
        self._incarnation += 1
        self._group = self._incarnation
        with ExitStack() as stack:
            if nodes == 1:
                here, meet = range(tp), {"store": os.memfd_create("mmplane-store", os.MFD_CLOEXEC)}
                stack.callback(os.close, meet["store"])
            else:
                here, meet = self._meet(stack)
            links = stack.enter_context(closing(GroupLinks(tp, here if self._is_node else None)))
            for rank in here:
                given = {**meet, **links.of(rank), **self._wiring.rank()}
                self.ranks[rank] = self._spawn("rank", rank, tp, given, self._group)
            if self._is_node:
                assert self._meeting is not None
                self.tell(self.head, Ends(self._meeting), *(far.fileno() for _, far in links.crossing(here)))
            for machine, stand_in in self.stand_ins.items():
                ranks = self._config.ranks_of(machine)
                assert self._meeting is not None
                meeting = replace(self._meeting, first=ranks.start)
                self.tell(stand_in, Ends(meeting), *(near.fileno() for near, _ in links.crossing(ranks)))

    def _meet(self, stack: ExitStack) -> tuple[range, Descriptors]:
        """The ranks of this machine, and what each gets to find the others. The server's has the store's socket."""
        given = {}
        if self._meeting is None:
            store = stack.enter_context(self._wiring.listen())
            host, port, *_ = store.getsockname()
            self._meeting = Meeting(host, port, host, 0, self._config.ranks_each)
            given = {"store": store.fileno()}
        meeting = self._meeting
        given["meeting"] = hand_over("mmplane-meeting", msgspec.msgpack.encode(meeting))
        stack.callback(os.close, given["meeting"])
        return range(meeting.first, meeting.first + meeting.ranks), given

    def _spawn(self, role: str, index: int, of: int, descriptors: Descriptors, incarnation: int | None = None) -> Child:
        if incarnation is None:
            self._incarnation += 1
            incarnation = self._incarnation
        config = msgspec.msgpack.encode(msgspec.structs.replace(self._config, copy_features=self._copy_features))
        spawn = Spawn(incarnation, role, index, of, incarnation, self._epoch, config, ())
        return self._nursery.spawn(spawn, descriptors)
