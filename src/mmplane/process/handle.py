"""A process identified by a pidfd, which never refers to another process, unlike a pid."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass, field

from mmplane.core.control import FromChild
from mmplane.process.stacks import Stacks
from mmplane.process.stillness import Stillness
from mmplane.wire.link import Link

HEADS = ("frontend", "keeper", "outpost", "node")
"""The roles that keep the bookkeeping of an epoch. Every set of children has exactly one of them."""


@dataclass
class Handle:
    """A pidfd, the pid for display, and the incarnation of its role."""

    pid: int
    pidfd: int
    incarnation: int

    @classmethod
    def of_child(cls, pid: int) -> Handle:
        """Open the handle of a direct child."""
        return cls(pid, os.pidfd_open(pid), 0)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal. Does nothing if the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> None:
        """Send SIGKILL, which works on a stopped process too."""
        self.signal(signal.SIGKILL)

    def wait(self, limit_s: float) -> bool:
        """Whether the process has ended within `limit_s` seconds."""
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return bool(poller.poll(max(0.0, limit_s) * 1000))

    def reap(self) -> None:
        """Close the handle. Reap the process if it has ended and is our child, or has become our child.

        This never waits: a process in uninterruptible sleep in a driver may end much later.
        """
        with contextlib.suppress(ChildProcessError):  # the nursery reaps it, unless the nursery is dead
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
        os.close(self.pidfd)


@dataclass
class Child:
    """What the supervisor knows about one child."""

    role: str
    index: int
    handle: Handle
    link: Link[FromChild]
    stacks: Stacks
    ready: bool = False
    deaf: bool = False
    probing: bool = False
    computing: bool = False
    """Whether its loop was computing at its last heartbeat."""
    draining: bool = False
    """Whether it was told to finish. It will report when it has."""
    condemned_s: float | None = None
    """When it was decided to kill it."""
    stillness: Stillness = field(default_factory=lambda: Stillness(time.monotonic()))

    @property
    def name(self) -> str:
        """Its name in the log."""
        return self.role if self.role in (*HEADS, "parser") else f"{self.role} {self.index}"

    @property
    def speaks(self) -> bool:
        """Whether it may send something urgent. Heartbeats are not urgent, so nobody has to wake up for them."""
        return not self.deaf and (self.role in HEADS or not self.ready or self.draining)

    def heard(self) -> None:
        """Note that it sent something, or is known to be well."""
        self.stillness.heard(time.monotonic())

    def __str__(self) -> str:
        return f"{self.name} (pid {self.handle.pid})"

    def close(self) -> None:
        """Close its descriptors, after the process has ended."""
        self.link.close()
        self.stacks.close()
        self.handle.reap()
