"""The supervisor's side of the nursery: starts it, and has children forked from it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import msgspec

from mmplane.core.control import FromChild, FromNursery, Preloaded, Spawn, Spawned
from mmplane.process.handle import Child, Handle
from mmplane.process.stacks import Stacks
from mmplane.wire.link import Link, LinkError, pair

log = logging.getLogger("mmplane")

ANSWER_LIMIT_S = 5.0


class Spawner:
    """One nursery at a time; `handle` is None when there is none."""

    def __init__(self, log_format: str) -> None:
        self._log_format = log_format
        self.handle: Handle | None = None
        self.preloaded = False
        self._link: Link[Spawned | Preloaded] | None = None

    @property
    def listening(self) -> int | None:
        """The descriptor to watch until the nursery says that it has preloaded everything."""
        return None if self._link is None or self.preloaded else self._link.fileno()

    def start(self) -> None:
        """Start a nursery; it takes seconds until it has preloaded everything."""
        ours, theirs = pair()
        process = subprocess.Popen(
            [sys.executable, "-m", "mmplane.process.nursery", str(theirs.fileno()), str(os.getpid()), self._log_format],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env=os.environ | _ENVIRONMENT,
        )
        theirs.close()
        self.handle = Handle.of_child(process.pid)
        process.returncode = 0  # the handle reaps it, Popen must not
        self._link = Link(ours, FromNursery)

    def hear(self) -> None:
        """Read what the nursery said before it was asked anything."""
        assert self._link is not None
        try:
            received = self._link.receive_nowait()
        except LinkError:
            return  # its pidfd will tell
        if received is not None and isinstance(received[0], Preloaded):
            self.preloaded = True
            log.info("preloaded in %.1f s", received[0].import_ms / 1000)

    def gone(self) -> None:
        """The nursery has ended."""
        assert self.handle is not None
        assert self._link is not None
        self.handle.reap()
        self._link.close()
        self.handle, self._link, self.preloaded = None, None, False

    def spawn(self, spawn: Spawn, descriptors: dict[str, int]) -> Child:
        """Have a child forked that inherits these descriptors. Raises LinkError when the nursery does not answer."""
        ours, theirs = pair()
        stacks = Stacks()
        try:
            handle = self._fork(spawn, {"control": theirs.fileno(), "stacks": stacks.write, **descriptors})
        except BaseException:
            ours.close()
            stacks.close()
            raise
        finally:
            theirs.close()
            stacks.handed_over()
        return Child(spawn.role, spawn.index, handle, Link(ours, FromChild), stacks)

    def _fork(self, spawn: Spawn, descriptors: dict[str, int]) -> Handle:
        assert self._link is not None
        named = msgspec.structs.replace(spawn, descriptors=tuple(descriptors))
        self._link.send(named, list(descriptors.values()), limit_s=ANSWER_LIMIT_S)
        received = self._link.receive(limit_s=ANSWER_LIMIT_S)
        if received is None or not isinstance(spawned := received[0], Spawned):
            raise LinkError("the nursery does not answer")
        (pidfd,) = received[1]
        return Handle(spawned.pid, pidfd, spawn.incarnation)


_ENVIRONMENT = {
    # gloo listens where this says, and on all interfaces without it.
    "GLOO_SOCKET_IFNAME": "lo",
    # Threads that wait for each other sleep: cores are shared with workers and the front end.
    "OMP_WAIT_POLICY": "PASSIVE",
    "TP_SOCKET_IFNAME": "lo",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # Large bodies are freed and allocated again on every request: keep their pages.
    "MALLOC_MMAP_THRESHOLD_": str(256 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 1024 * 1024),
    "MALLOC_TOP_PAD_": str(16 * 1024 * 1024),
}
