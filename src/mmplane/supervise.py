"""The supervisor starts all processes, watches them and replaces them. What each is given is `mmplane.wiring`.

It works by reconciliation. Events (a process ended, a message came, a signal) only change what it knows; `_reconcile`
then compares that with the desired state and starts or kills what differs. Every kind of failure takes the same path,
and the order of events does not matter. `ROLES` states which children there are.

    supervisor ── nursery ─┬─ front end      dies: epoch + 1, workers replaced, ranks drop what they held
                           ├─ parser         dies: replaced alone
                           ├─ worker 1..W    dies: replaced alone
                           ├─ porter W+1..   dies: replaced alone; its media machine joins again
                           └─ rank 0..N-1    one dies or stalls: the whole group is replaced

    supervisor ── scout                      dies: replaced alone, with a delay; nothing waits for it

    supervisor ── nursery ─┬─ keeper         dies: epoch + 1, workers and all regions replaced
      (sidecar)            ├─ worker 1..W    dies: replaced alone
                           └─ render 1..R    dies: replaced alone

    supervisor ── nursery ─┬─ outpost        dies: epoch + 1, workers and all regions replaced
      (media machine)      └─ worker 1..W    dies: replaced alone

A weakness: starting a child waits for the nursery's answer (a few ms), so a stopped nursery blocks the loop for a few
seconds before everything is started again.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import msgspec

from mmplane.arena.errors import OutOfMemory
from mmplane.config import Config
from mmplane.core.control import (
    Attach,
    Beat,
    Drain,
    Drained,
    Everyone,
    FromChild,
    Killed,
    OutOfService,
    Probing,
    RanksGone,
    RanksReady,
    RanksUp,
    Ready,
    Renew,
    Replace,
    Running,
    Serving,
    Spawn,
    Unloadable,
    WorkerGone,
    WorkerUp,
)
from mmplane.core.records import Record
from mmplane.process.death import adopt_orphans
from mmplane.process.endings import Endings
from mmplane.process.handle import HEADS, Child
from mmplane.process.notify import READY, STOPPING, notify
from mmplane.process.restarts import Restarts
from mmplane.process.signals import BYTES_MAX, heed
from mmplane.process.spawner import Spawner
from mmplane.process.watchdog import Watchdog
from mmplane.process.watched import Watched
from mmplane.ray.scouting import Scouting
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
STARTS_MAX = 3
"""A role that ends this often before it is ready, in a server that has never served, will not work: give up."""
UNLOADABLE = 2
"""The exit code for a model that cannot be served."""
WORKERS = ("worker", "porter", "parser")
PARSER = 0
"""The parser is handled like a worker: it writes region 0, and is started and replaced like one."""
END_LIMIT_S = 5.0
RENEWED = 75
"""The exit code of a media machine that has to load something else."""
RANKS = "the group of ranks"
SERVING = (*HEADS, "render")
"""The roles that clients talk to. They finish running requests before they end."""
REFUSE_S = 1.0
"""How long the front end may take to answer requests that were not finished in time."""


class Supervisor:
    """Owns the handle of every process. Single-threaded; `run` is its life."""

    def __init__(self, config: Config, wiring: Wiring, *, on_serving: Callable[[], None], ray: str = "") -> None:
        """`on_serving` is called once, when all that clients talk to is ready. The wiring is closed at the end.

        `ray` is the HOST:PORT of a Ray cluster on whose machines media machines run, if this server looks after them.
        """
        self._config = config
        self._wiring = wiring
        self._roles = ROLES[config.kind]
        self._on_serving = on_serving
        self._nursery = Spawner(config.log_format, _preloaded(config))
        self._scouting = Scouting(ray, config.log_format, config.log_level)
        self._watchdog = Watchdog(stall_s=config.stall_seconds, item_s=config.item_seconds, load_s=config.load_seconds)
        self._told_out: tuple[str, ...] = ()
        self._told_running: tuple[Running, ...] = ()
        self._head: Child | None = None
        self._workers: dict[int, Child] = {}
        self._ranks: dict[int, Child] = {}
        self._renders: dict[int, Child] = {}
        self._ranks_ready: RanksReady | None = None
        self._copy_features = False
        self._attached_epoch = 0
        self._epoch = 0
        self._incarnation = 0
        self._restarts = Restarts()
        self._endings = Endings()
        self._stopping_by_s: float | None = None
        self._undrained: set[str] = set()
        """Children that must still finish running requests."""
        self._exit_code: int | None = None
        self._serving = False
        """Whether the head has served."""
        self._served = False
        """Whether all have been ready at the same time."""

    def run(self) -> int:
        """Start everything, keep it running, and return the exit code once every process has ended."""
        adopt_orphans()
        signals = heed((signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        watched, watched_for = self._watched(signals), self._watched_for()
        try:
            while self._exit_code is None:
                self._reconcile()
                if self._nursery.unheard:
                    self._hear_nursery()
                if watched_for != (now := self._watched_for()):
                    watched, watched_for = self._watched(signals), now
                watched.wait(self._due_s() - time.monotonic())
        finally:
            self._end_everything()
        return self._exit_code

    # Events, which change what is known.

    def _children(self) -> list[Child]:
        front = [self._head] if self._head else []
        return [*front, *self._workers.values(), *self._ranks.values(), *self._renders.values()]

    def _watched_for(self) -> tuple[object, ...]:
        """Changes when different descriptors must be watched.

        What is watched keeps its child alive, so no other child has its id.
        """
        nursery = self._nursery
        children = ((id(child), child.speaks) for child in self._children())
        return nursery.handle and nursery.handle.pid, nursery.listening, self._scouting.pid, *children

    def _watched(self, signals: int) -> Watched:
        """Messages come before deaths: what a process sent before it died still counts."""
        watched = Watched()
        watched.watch(signals, lambda: self._signalled(os.read(signals, BYTES_MAX)))
        if self._nursery.handle is not None:
            watched.watch(self._nursery.handle.pidfd, self._nursery_gone, last=True)
        if self._nursery.listening is not None:
            watched.watch(self._nursery.listening, self._hear_nursery)
        for child in self._children():
            watched.watch(child.handle.pidfd, partial(self._gone, child), last=True)
            if child.speaks:
                watched.watch(child.link.fileno(), partial(self._hear, child))
        self._scouting.watch(watched)
        return watched

    def _due_s(self) -> float:
        """When there is something to do even if nothing happens."""
        if self._stopping_by_s is not None:
            return self._stopping_by_s
        due_s = min(self._watchdog.due_s(self._children()), self._restarts.due_s(time.monotonic()))
        return min(due_s, self._scouting.due_s)

    def _signalled(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGINT or self._stopping_by_s is not None:
                log.info("stopping at once")
                self._exit_code = 0 if number == signal.SIGINT else 1
            else:
                notify(STOPPING)
                log.info("draining for at most %g s", self._config.drain_seconds)
                self._stopping_by_s = time.monotonic() + self._config.drain_seconds + REFUSE_S
                for child in self._children():
                    if child.role in SERVING:
                        child.draining = True
                        self._undrained.add(child.name)
                        self._tell(child, Drain(self._config.drain_seconds))

    def _hear_nursery(self) -> None:
        for said in self._nursery.hear():
            if isinstance(said, Killed):
                self._endings.killed(said)
                continue
            for child in self._children():
                if child.handle.pid == said.pid:
                    child.stillness.seen(time.monotonic(), stopped=said.stopped)
        if self._nursery.preloaded:
            self._works("nursery")

    def _hear(self, child: Child) -> None:
        try:
            while (received := child.link.receive_nowait()) is not None:
                child.heard()
                self._heard(child, received[0])
        except LinkError:
            child.deaf = True  # its pidfd will report it

    def _heard(self, child: Child, record: FromChild) -> None:
        match record:
            case Beat():
                child.computing = record.computing
            case Ready():
                child.ready = True
                self._works(child.name)
                self._announce()
            case RanksReady():
                self._ranks_ready = record
                for rank in self._ranks.values():
                    rank.ready, rank.probing = True, False
                    rank.heard()
                self._works(RANKS)
            case Probing():
                child.probing = True
            case Serving():
                self._serving = True
                self._announce()
            case Replace():
                worker = self._workers.get(record.index)
                if worker is not None and worker.handle.incarnation == record.incarnation:
                    self._watchdog.condemn(worker, "missed an item's deadline")
            case Drained():
                self._undrained.discard(child.name)
            case Renew():
                self._exit_code = RENEWED
            case Unloadable():
                if self._served:  # it worked before, and may work again
                    log.error("%s: %s", child, record.reason)
                elif self._exit_code is None:  # every process reports it; once is enough
                    log.error("%s", record.reason)
                    self._exit_code = UNLOADABLE

    def _announce(self) -> None:
        rendering = sum(child.ready for child in self._renders.values()) == self._config.render_processes
        if self._serving and rendering and not self._served:
            self._served = True
            self._on_serving()
            notify(READY)

    def _gone(self, child: Child) -> None:
        self._hear(child)
        stacks = child.stacks.written()  # a crash is the last thing that it reports
        child.close()
        alone = child.role in WORKERS and self._head is None
        a_peer_died = child.role == "rank" and len(self._ranks) < self._config.tp
        expected = alone or a_peer_died or self._stopping_by_s is not None
        level = logging.INFO if expected else logging.WARNING
        log.log(level, "%s ended", child, extra={"stacks": stacks})
        self._endings.gone(child.handle.pid, str(child), level)
        self._undrained.discard(child.name)
        if child is self._head:
            self._head = None
        elif child.role == "render":
            del self._renders[child.index]
        elif child.role in WORKERS:
            del self._workers[child.index]
            self._tell(self._head, WorkerGone(child.index, child.handle.incarnation))
        else:
            del self._ranks[child.index]
            self._copy_features |= child.probing and child.stacks.crashed  # not for one that was killed in the meantime
            for peer in self._ranks.values():
                peer.handle.kill()
            if not self._ranks:
                self._group_gone(child.handle.incarnation)
        # Workers and the parser end with their front end, which is not their failure.
        self._ended(RANKS if child.role == "rank" else child.name, blameless=alone)

    def _works(self, role: str) -> None:
        if (gone_s := self._restarts.ready(role)) is not None:
            log.info("%s: back after %.1f s", role, time.monotonic() - gone_s)

    def _ended(self, role: str, *, blameless: bool = False) -> None:
        failures = self._restarts.ended(role, time.monotonic(), blameless=blameless)
        if failures >= STARTS_MAX and not self._served:
            log.error("%s ended %d times before it was ready; giving up", role, failures)
            self._exit_code = 1
        elif failures:
            log.warning("%s ended before it was ready, %d times in a row", role, failures)

    def _group_gone(self, incarnation: int) -> None:
        self._ranks_ready = None
        self._attached_epoch = 0
        self._tell(self._head, RanksGone(incarnation))

    def _nursery_gone(self) -> None:
        log.warning("the nursery ended; restarting all processes")
        self._nursery.gone()
        self._ended("nursery")

    # Reconciliation with the desired state.

    def _reconcile(self) -> None:
        if self._stopping_by_s is not None:
            if not self._undrained or time.monotonic() > self._stopping_by_s:
                self._exit_code = 0
            return
        self._scouting.reconcile()
        self._look()
        self._tell_who_is_out()
        if self._nursery.handle is None:
            if not self._children():  # each dies with the nursery, and none of the next may meet one of the last
                self._start("nursery", self._nursery.start)
            return
        if not self._nursery.preloaded:
            return
        try:
            self._reconcile_children()
        except LinkError:
            self._nursery.handle.kill()
        self._tell_who_runs()

    def _look(self) -> None:
        children = self._children()
        if time.monotonic() >= self._watchdog.due_s(children):
            for (
                child
            ) in children:  # read what they sent while this process slept or was stopped, before they are judged
                self._hear(child)
        self._watchdog.look(children)

    def _reconcile_children(self) -> None:
        if self._head is None:
            # No region is written before every worker of the old epoch is gone.
            for worker in self._workers.values():
                worker.handle.kill()
            if not self._workers:
                self._start(self._roles.head, self._start_head)
        else:
            if self._roles.parser and PARSER not in self._workers:
                self._start("parser", self._start_parser)
            for index in range(1, self._config.workers + 1):
                if index not in self._workers:
                    self._start(f"worker {index}", partial(self._start_worker, index))
            for index in range(self._config.workers + 1, self._config.workers + self._config.join_max + 1):
                if index not in self._workers:
                    self._start(f"porter {index}", partial(self._start_worker, index, "porter"))
        for index in range(1, self._config.render_processes + 1):
            if index not in self._renders:
                self._start(f"render {index}", partial(self._start_render, index))
        if self._roles.ranks and not self._ranks:
            self._start(RANKS, self._start_ranks)
        if (
            self._head is not None
            and self._head.ready
            and self._ranks_ready is not None
            and len(self._ranks) == self._config.tp  # not while a group whose leader has died is still ending
            and self._attached_epoch != self._epoch
        ):
            self._attach(self._ranks_ready)

    def _tell_who_is_out(self) -> None:
        out = self._watchdog.out_of_service
        if self._head is not None and out != self._told_out:
            self._told_out = out
            self._tell(self._head, OutOfService(out))

    def _tell_who_runs(self) -> None:
        nursery = [Running("nursery", 0, self._nursery.handle.pid)] if self._nursery.handle else []
        children = (Running(child.role, child.index, child.handle.pid) for child in self._children())
        running = (Running("supervisor", 0, os.getpid()), *nursery, *children)
        if self._head is not None and running != self._told_running:
            self._told_running = running
            self._tell(self._head, Everyone(running))

    def _start(self, role: str, start: Callable[[], None]) -> None:
        if not self._restarts.may_start(role, time.monotonic()):
            return
        self._restarts.started(role)
        try:
            start()
        except (OSError, OutOfMemory) as error:
            log.warning("%s cannot be started now: %s", role, error)
            self._restarts.refused(role, time.monotonic())
            for rank in self._ranks.values() if role == RANKS else ():
                rank.handle.kill()

    def _start_head(self) -> None:
        if self._roles.renews_regions and self._epoch:
            self._wiring.renew_regions()
        self._epoch += 1
        self._told_out = ()
        self._told_running = ()
        self._head = self._spawn(self._roles.head, 0, 1, self._roles.given(self._wiring))

    def _start_parser(self) -> None:
        ours, theirs = pair()
        with ours, theirs:
            given = {"frontend": theirs.fileno(), **self._wiring.parser()}
            self._workers[PARSER] = child = self._spawn("parser", PARSER, 1, given)
            self._tell(self._head, WorkerUp(PARSER, child.handle.incarnation), ours.fileno())

    def _start_worker(self, index: int, role: str = "worker") -> None:
        ours, theirs = pair()
        given = self._wiring.porter(index) if role == "porter" else self._wiring.worker(index)
        with ours, theirs:
            given["frontend"] = theirs.fileno()
            self._workers[index] = child = self._spawn(role, index, self._config.workers, given)
            self._tell(self._head, WorkerUp(index, child.handle.incarnation), ours.fileno())

    def _start_render(self, index: int) -> None:
        self._renders[index] = self._spawn("render", index, self._config.render_processes, self._wiring.render())

    def _start_ranks(self) -> None:
        tp = self._config.tp
        self._incarnation += 1
        store = os.memfd_create("mmplane-store", os.MFD_CLOEXEC)
        try:
            with closing(GroupLinks(tp)) as links:
                for rank in range(tp):
                    given = {"store": store, **links.of(rank), **self._wiring.rank()}
                    self._ranks[rank] = self._spawn("rank", rank, tp, given, self._incarnation)
        finally:
            os.close(store)

    def _attach(self, ready: RanksReady) -> None:
        assert self._head is not None
        link, leaders_link = pair()
        stream, leaders_stream = stream_pair()
        with link, leaders_link, stream, leaders_stream:
            leader = self._ranks[0]
            self._tell(leader, Attach(self._epoch), leaders_link.fileno(), leaders_stream.fileno())
            up = RanksUp(leader.handle.incarnation, ready.kv_bytes_per_token, ready.dtype)
            self._tell(self._head, up, link.fileno(), stream.fileno())
        self._attached_epoch = self._epoch

    def _spawn(self, role: str, index: int, of: int, descriptors: Descriptors, incarnation: int | None = None) -> Child:
        if incarnation is None:
            self._incarnation += 1
            incarnation = self._incarnation
        config = msgspec.msgpack.encode(msgspec.structs.replace(self._config, copy_features=self._copy_features))
        spawn = Spawn(incarnation, role, index, of, incarnation, self._epoch, config, ())
        return self._nursery.spawn(spawn, descriptors)

    def _tell(self, child: Child | None, record: Record, *descriptors: int) -> None:
        if child is None:
            return
        try:
            child.link.send(record, descriptors, limit_s=SEND_LIMIT_S)
        except LinkError:
            log.warning("%s does not read its messages; killing it", child)
            child.handle.kill()

    def _end_everything(self) -> None:
        self._scouting.end()
        for child in self._children():
            child.handle.kill()
        nursery = self._nursery.handle
        if nursery is not None:
            nursery.kill()
        deadline_s = time.monotonic() + END_LIMIT_S
        for child in self._children():
            child.handle.wait(deadline_s - time.monotonic())
            child.close()
        if nursery is not None:
            nursery.wait(deadline_s - time.monotonic())
            nursery.reap()
        self._wiring.close()


def _preloaded(config: Config) -> str:
    """What the nursery imports (`mmplane.process.nursery.PRELOADED`)."""
    if config.carry_only:
        return "carrying"
    return "rendering" if config.render_processes else config.kind
