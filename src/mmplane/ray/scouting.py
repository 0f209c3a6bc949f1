"""A supervisor's or router's side of a scout: starts it, hears it, starts it again. Nothing depends on whether there is
one.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from contextlib import suppress

from mmplane.process.handle import Handle
from mmplane.process.watched import Watched
from mmplane.ray.records import FromScout, MachineGone, MachinesWanted, MachineUp, ReplicasAt
from mmplane.wire.link import Link, LinkError, pair

log = logging.getLogger("mmplane")

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 60.0
"""Between two scouts: each imports Ray, which takes seconds of CPU."""
_MODULE = "mmplane.ray.scout"


class Scouting:
    """At most one scout, of the Ray cluster at `address`; without an address, none ever."""

    def __init__(self, address: str, log_format: str, log_level: str, *, module: str = _MODULE) -> None:
        self._words = (log_format, log_level, address)
        self._module = module
        self._address = address
        self._handle: Handle | None = None
        self._link: Link[FromScout] | None = None
        self._wanted: MachinesWanted | None = None
        """For the next scout, should the cluster forget it."""
        self._delay_s = BACKOFF_FIRST_S
        self._not_before_s = 0.0
        self.replicas: tuple[tuple[str, int], ...] | None = None
        """Address and port of each server that Ray runs, as a scout said it last."""

    @property
    def pid(self) -> int:
        """The scout's process id, 0 without one."""
        return self._handle.pid if self._handle else 0

    @property
    def due_s(self) -> float:
        """When the next scout may start, by the monotonic clock; never while there is one."""
        return self._not_before_s if self._address and self._handle is None else float("inf")

    def watch(self, watched: Watched) -> None:
        """What it says, and its end."""
        if self._handle is not None and self._link is not None:
            watched.watch(self._link.fileno(), self._hear)
            watched.watch(self._handle.pidfd, self._gone, last=True)

    def reconcile(self) -> None:
        """Start one if there should be one."""
        if time.monotonic() < self.due_s:
            return
        self._not_before_s = time.monotonic() + self._delay_s
        self._delay_s = min(BACKOFF_MAX_S, 2 * self._delay_s)
        try:
            self._start()
        except OSError as error:
            log.warning("the scout cannot be started now: %s", error)

    def look(self) -> None:
        """All of the above without waiting, for a caller that does not wait for descriptors."""
        self.reconcile()
        watched = Watched()
        self.watch(watched)
        watched.wait(0)

    def end(self) -> None:
        """No scout from now on."""
        self._address = ""
        if self._handle is not None:
            self._handle.kill()
            self._handle.wait(1.0)
            self._closed()

    def _start(self) -> None:
        ours, theirs = pair()
        with theirs:
            words = [sys.executable, "-m", self._module, str(theirs.fileno()), str(os.getpid()), *self._words]
            try:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError:
                ours.close()
                raise
        process.returncode = 0  # the handle reaps it, Popen must not
        self._handle, self._link = Handle.of_child(process.pid), Link(ours, FromScout)
        if self._wanted is not None:
            with suppress(LinkError):  # it has ended already; its pidfd tells
                self._link.send_nowait(self._wanted)

    def _hear(self) -> None:
        assert self._link is not None
        try:
            while (received := self._link.receive_nowait()) is not None:
                self._heard(received[0])
        except LinkError:
            self._handle.kill() if self._handle else None  # its pidfd tells

    def _heard(self, record: FromScout) -> None:
        self._delay_s = BACKOFF_FIRST_S
        match record:
            case MachineUp(address, name):
                log.info("Ray: machine %s (%s) is there", name, address)
            case MachineGone(address, name):
                log.info("Ray: machine %s (%s) is gone", name, address)
            case MachinesWanted():
                self._wanted = record
            case ReplicasAt(replicas):
                if replicas != (self.replicas or ()):
                    where = ", ".join(f"{host}:{port}" for host, port in replicas)
                    log.info("Ray: replicas at %s", where or "no machine")
                self.replicas = replicas

    def _gone(self) -> None:
        self._hear()
        log.warning("the scout ended; serving goes on without it")
        self._closed()

    def _closed(self) -> None:
        assert self._handle is not None
        assert self._link is not None
        self._link.close()
        self._handle.reap()
        self._handle = self._link = None
