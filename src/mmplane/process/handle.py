"""A process by its own handle: a pidfd cannot come to mean another process, as a number can."""

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

HEADS = ("frontend", "keeper", "outpost")
"""Roles that keep the books of an epoch: one of them stands at the head of every set of children."""


@dataclass
class Handle:
    """A pidfd with the number that people read in `ps`, and which life of its role this is."""

    pid: int
    pidfd: int
    incarnation: int

    @classmethod
    def of_child(cls, pid: int) -> Handle:
        """The handle of a direct child."""
        return cls(pid, os.pidfd_open(pid), 0)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> None:
        """SIGKILL: works on a stopped process too."""
        self.signal(signal.SIGKILL)

    def wait(self, limit_s: float) -> bool:
        """Whether the process has ended within `limit_s` seconds."""
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return bool(poller.poll(max(0.0, limit_s) * 1000))

    def reap(self) -> None:
        """Give the handle back, and collect the process if it has ended and is, or has become, our child.

        It never waits: a process in a driver's uninterruptible sleep ends when it likes.
        """
        with contextlib.suppress(ChildProcessError):  # it is the nursery's to reap, unless that is dead
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
        os.close(self.pidfd)


@dataclass
class Child:
    """What the supervisor knows of one child."""

    role: str
    index: int
    handle: Handle
    link: Link[FromChild]
    stacks: Stacks
    ready: bool = False
    deaf: bool = False
    probing: bool = False
    computing: bool = False
    """When it was last heard of, its loop was computing."""
    draining: bool = False
    """It was told to finish, and will say when it has."""
    condemned_s: float | None = None
    """When it was decided to kill it."""
    stillness: Stillness = field(default_factory=lambda: Stillness(time.monotonic()))

    @property
    def name(self) -> str:
        """What people call it."""
        return self.role if self.role in (*HEADS, "parser") else f"{self.role} {self.index}"

    @property
    def speaks(self) -> bool:
        """Whether it may say something that cannot wait. Beats can: nobody has to wake up for each."""
        return not self.deaf and (self.role in HEADS or not self.ready or self.draining)

    def heard(self) -> None:
        """It said something, or is known to be well."""
        self.stillness.heard(time.monotonic())

    def __str__(self) -> str:
        return f"{self.name} (pid {self.handle.pid})"

    def close(self) -> None:
        """Give the descriptors back, after the process has ended."""
        self.link.close()
        self.stacks.close()
        self.handle.reap()
