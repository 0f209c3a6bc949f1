"""The supervisor starts all processes, watches them and replaces them. Which there are is `mmplane.children`.

It works by reconciliation. Events (a process ended, a message came, a signal) only change what it knows; `_reconcile`
then compares that with the desired state and starts or kills what differs. Every kind of failure takes the same path,
and the order of events does not matter.

    supervisor ── nursery ─┬─ front end      dies: epoch + 1, workers replaced, ranks drop what they held
                           ├─ parser         dies: replaced alone
                           ├─ worker 1..W    dies: replaced alone
                           ├─ porter W+1..   dies: replaced alone; its media machine joins again
                           ├─ rank 0..N-1    one dies or stalls: the whole group is replaced
                           └─ stand-in 1..   dies when its machine is lost: the whole group is replaced

    supervisor ── scout                      dies: replaced alone, with a delay; nothing waits for it

    supervisor ── nursery ─┬─ keeper         dies: epoch + 1, workers and all regions replaced
      (sidecar)            ├─ worker 1..W    dies: replaced alone
                           └─ render 1..R    dies: replaced alone

    supervisor ── nursery ─┬─ outpost        dies: epoch + 1, workers and all regions replaced
      (media machine)      └─ worker 1..W    dies: replaced alone

    supervisor ── nursery ─┬─ node           dies: epoch + 1, ranks and all regions replaced
      (with ranks)         └─ rank R..       one dies or stalls: node and ranks are replaced

A weakness: starting a child waits for the nursery's answer (a few ms), so a stopped nursery blocks the loop for a few
seconds before everything is started again.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from functools import partial

from mmplane.arena.errors import OutOfMemory
from mmplane.children import GROUP, RANKS, WORKERS, Children, Start
from mmplane.config import Config
from mmplane.core.control import (
    Beat,
    Drain,
    Drained,
    FromChild,
    Killed,
    Meeting,
    Probing,
    RanksReady,
    Ready,
    Renew,
    Replace,
    Serving,
    Unloadable,
)
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
from mmplane.wire.link import LinkError
from mmplane.wiring import Wiring

log = logging.getLogger("mmplane")

STARTS_MAX = 3
"""A role that ends this often before it is ready, in a server that has never served, will not work: give up."""
UNLOADABLE = 2
"""The exit code for a model that cannot be served."""
END_LIMIT_S = 5.0
RENEWED = 75
"""The exit code of a media machine that has to load something else."""
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
        self._on_serving = on_serving
        self._nursery = Spawner(config.log_format, _preloaded(config))
        self._children = Children(config, wiring, self._nursery)
        self._scouting = Scouting(ray, config.log_format, config.log_level)
        self._watchdog = Watchdog(stall_s=config.stall_seconds, item_s=config.item_seconds, load_s=config.load_seconds)
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

    def _watched_for(self) -> tuple[object, ...]:
        """Changes when different descriptors must be watched.

        What is watched keeps its child alive, so no other child has its id.
        """
        nursery = self._nursery
        children = ((id(child), child.speaks) for child in self._children.all())
        return nursery.handle and nursery.handle.pid, nursery.listening, self._scouting.pid, *children

    def _watched(self, signals: int) -> Watched:
        """Messages come before deaths: what a process sent before it died still counts."""
        watched = Watched()
        watched.watch(signals, lambda: self._signalled(os.read(signals, BYTES_MAX)))
        if self._nursery.handle is not None:
            watched.watch(self._nursery.handle.pidfd, self._nursery_gone, last=True)
        if self._nursery.listening is not None:
            watched.watch(self._nursery.listening, self._hear_nursery)
        for child in self._children.all():
            watched.watch(child.handle.pidfd, partial(self._gone, child), last=True)
            if child.speaks:
                watched.watch(child.link.fileno(), partial(self._hear, child))
        self._scouting.watch(watched)
        return watched

    def _due_s(self) -> float:
        """When there is something to do even if nothing happens."""
        if self._stopping_by_s is not None:
            return self._stopping_by_s
        due_s = min(self._watchdog.due_s(self._children.all()), self._restarts.due_s(time.monotonic()))
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
                for child in self._children.all():
                    if child.role in SERVING:
                        child.draining = True
                        self._undrained.add(child.name)
                        self._children.tell(child, Drain(self._config.drain_seconds))

    def _hear_nursery(self) -> None:
        for said in self._nursery.hear():
            if isinstance(said, Killed):
                self._endings.killed(said)
                continue
            for child in self._children.all():
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
                self._works(_role(child))
                self._announce()
            case RanksReady():
                self._children.ranks_are_ready(record)
                self._works(RANKS)
            case Probing():
                child.probing = True
            case Serving():
                self._serving = True
                self._announce()
            case Replace():
                worker = self._children.workers.get(record.index)
                if worker is not None and worker.handle.incarnation == record.incarnation:
                    self._watchdog.condemn(worker, "missed an item's deadline")
            case Drained():
                self._undrained.discard(child.name)
            case Meeting():
                self._children.meet(record)
            case Renew():
                self._exit_code = RENEWED
            case Unloadable():
                if self._served:  # it worked before, and may work again
                    log.error("%s: %s", child, record.reason)
                elif self._exit_code is None:  # every process reports it; once is enough
                    log.error("%s", record.reason)
                    self._exit_code = UNLOADABLE

    def _announce(self) -> None:
        rendering = sum(child.ready for child in self._children.renders.values()) == self._config.render_processes
        if self._serving and rendering and not self._served:
            self._served = True
            self._on_serving()
            notify(READY)

    def _gone(self, child: Child) -> None:
        self._hear(child)
        stacks = child.stacks.written()  # a crash is the last thing that it reports
        child.close()
        alone = child.role in WORKERS and self._children.head is None
        a_peer_died = child.role in GROUP and self._children.group_lacks_some
        expected = alone or a_peer_died or self._stopping_by_s is not None
        level = logging.INFO if expected else logging.WARNING
        log.log(level, "%s ended", child, extra={"stacks": stacks})
        self._endings.gone(child.handle.pid, str(child), level)
        self._undrained.discard(child.name)
        self._children.gone(child)
        # Workers and the parser end with their front end, which is not their failure.
        self._ended(_role(child), blameless=alone or a_peer_died)

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
        self._children.tell_who_is_out(self._watchdog.out_of_service)
        if self._nursery.handle is None:
            if not self._children.all():  # each dies with the nursery, and none of the next may meet one of the last
                self._start("nursery", self._nursery.start)
            return
        if not self._nursery.preloaded:
            return
        try:
            self._reconcile_children()
        except LinkError:
            self._nursery.handle.kill()
        self._children.tell_who_runs()

    def _look(self) -> None:
        children = self._children.all()
        if time.monotonic() >= self._watchdog.due_s(children):
            for child in children:  # before they are judged: what they sent while this process slept or was stopped
                self._hear(child)
        self._watchdog.look(children)

    def _reconcile_children(self) -> None:
        for role, start in self._children.missing():
            self._start(role, start)
        self._children.attach_ranks()

    def _start(self, role: str, start: Start) -> None:
        if not self._restarts.may_start(role, time.monotonic()):
            return
        self._restarts.started(role)
        try:
            start()
        except (OSError, OutOfMemory) as error:
            log.warning("%s cannot be started now: %s", role, error)
            self._restarts.refused(role, time.monotonic())
            for rank in self._children.ranks.values() if role == RANKS else ():
                rank.handle.kill()

    def _end_everything(self) -> None:
        self._scouting.end()
        for child in self._children.all():
            child.handle.kill()
        nursery = self._nursery.handle
        if nursery is not None:
            nursery.kill()
        deadline_s = time.monotonic() + END_LIMIT_S
        for child in self._children.all():
            child.handle.wait(deadline_s - time.monotonic())
            child.close()
        if nursery is not None:
            nursery.wait(deadline_s - time.monotonic())
            nursery.reap()
        self._wiring.close()


def _role(child: Child) -> str:
    """The role as which it is started again."""
    return RANKS if child.role == "rank" else child.name


def _preloaded(config: Config) -> str:
    """What the nursery imports (`mmplane.process.nursery.PRELOADED`)."""
    if config.carry_only:
        return "carrying"
    return "rendering" if config.render_processes else config.kind
