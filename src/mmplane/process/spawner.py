"""The supervisor's interface to the nursery: starts it, and asks it to fork children."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import msgspec

from mmplane.core.control import FromChild, FromNursery, Halted, Killed, Preloaded, Refused, Spawn, Spawned
from mmplane.process.handle import Child, Handle
from mmplane.process.stacks import Stacks
from mmplane.wire.link import Link, LinkError, pair

log = logging.getLogger("mmplane")

ANSWER_LIMIT_S = 5.0


class Spawner:
    """One nursery at a time; `handle` is None if there is none."""

    def __init__(self, log_format: str, kind: str) -> None:
        self._log_format = log_format
        self._kind = kind
        self.handle: Handle | None = None
        self.preloaded = False
        self._link: Link[FromNursery] | None = None
        self._said: deque[Halted | Killed] = deque()

    @property
    def listening(self) -> int | None:
        """The descriptor to watch for messages that the nursery sends on its own."""
        return None if self._link is None else self._link.fileno()

    @property
    def unheard(self) -> bool:
        """Whether it sent one while it was asked for a child: `listening` does not become readable for that one."""
        return bool(self._said)

    def start(self) -> None:
        """Start a nursery. Preloading takes seconds. Raises OSError if the system refuses it."""
        ours, theirs = pair()
        command = [sys.executable, "-m", "mmplane.process.nursery"]
        with theirs, ExitStack() as undo:
            undo.callback(ours.close)
            process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(os.getpid()), self._log_format, self._kind],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=os.environ | _ENVIRONMENT | _OF_KIND.get(self._kind, {}),
            )
            process.returncode = 0  # the handle reaps it, not Popen
            self.handle = Handle.of_child(process.pid)
            self._link = Link(ours, FromNursery)
            undo.pop_all()

    def hear(self) -> Iterator[Halted | Killed]:
        """Read the messages that the nursery sent on its own: children were stopped, continued, or killed."""
        assert self._link is not None
        with suppress(LinkError):  # its pidfd will report it
            while (received := self._link.receive_nowait()) is not None:
                self._note(received[0])
        while self._said:
            yield self._said.popleft()

    def _note(self, record: FromNursery) -> None:
        match record:
            case Preloaded():
                self.preloaded = True
                log.info("preloaded in %.1f s", record.import_ms / 1000)
            case Halted() | Killed():
                self._said.append(record)

    def gone(self) -> None:
        """Note that the nursery has ended."""
        assert self.handle is not None
        assert self._link is not None
        self.handle.reap()
        self._link.close()
        self.handle, self._link, self.preloaded = None, None, False

    def spawn(self, spawn: Spawn, descriptors: dict[str, int]) -> Child:
        """Have a child forked that inherits these descriptors.

        Raises OSError if the system refuses it, and LinkError if the nursery does not answer.
        """
        with ExitStack() as undo:
            stacks = Stacks()
            undo.callback(stacks.close)
            try:
                ours, theirs = pair()
                undo.callback(ours.close)
                with theirs:
                    handle = self._fork(spawn, {"control": theirs.fileno(), "stacks": stacks.write, **descriptors})
            finally:
                stacks.handed_over()
            undo.pop_all()
        return Child(spawn.role, spawn.index, handle, Link(ours, FromChild), stacks)

    def _fork(self, spawn: Spawn, descriptors: dict[str, int]) -> Handle:
        assert self._link is not None
        named = msgspec.structs.replace(spawn, descriptors=tuple(descriptors))
        self._link.send(named, list(descriptors.values()), limit_s=ANSWER_LIMIT_S)
        while (received := self._link.receive(limit_s=ANSWER_LIMIT_S)) is not None:
            match received:
                case (Spawned() as spawned, [pidfd]):
                    return Handle(spawned.pid, pidfd, spawn.incarnation)
                case (Refused() as refused, _):
                    raise OSError(f"the system cannot create another process ({refused.reason})")
                case (record, _):
                    self._note(record)
        raise LinkError("the nursery does not answer")


_OF_KIND = {kind: {"OMP_NUM_THREADS": "1"} for kind in ("sidecar", "outpost")}
"""There are as many workers as cores: if torch is used (`--generic`), each computes in one thread."""

_ENVIRONMENT = {
    # gloo listens on this interface; without it, on all of them.
    "GLOO_SOCKET_IFNAME": "lo",
    # Threads that wait for each other sleep, because cores are shared with workers and the front end.
    "OMP_WAIT_POLICY": "PASSIVE",
    "TP_SOCKET_IFNAME": "lo",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # Large bodies are freed and allocated again for every request, so keep their pages.
    "MALLOC_MMAP_THRESHOLD_": str(256 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 1024 * 1024),
    "MALLOC_TOP_PAD_": str(16 * 1024 * 1024),
}
