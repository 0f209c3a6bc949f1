"""A producer and its readers for the bench's peers, in a separate process group that never outlives the call."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmplane.core.records import MESSAGE_BYTES_MAX

Row = dict[str, Any]

DEADLINE_S = 120
"""Only to distinguish progress from a hang."""
PREFIX = f"mmplane-handoff-{os.getpid()}-"
"""Prefix of a peer's named segments, by which leftovers are removed."""


def die_with_parent(parent: int) -> None:
    """End this process when its parent ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def fork(work: Callable[[], None]) -> int:
    """Fork a child that runs `work` and ends in any case, without running its parent's clean-up."""
    parent = os.getpid()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        die_with_parent(parent)
        work()
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the child says what went wrong and ends, whatever it was
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def in_group(work: Callable[[], list[Row]]) -> list[Row]:
    """Run `work` in a child that leads a process group; return its result. The group is always gone afterwards."""
    reading, writing = os.pipe()

    def child() -> None:
        os.setpgid(0, 0)
        os.close(reading)
        with open(writing, "wb") as out:
            out.write(json.dumps(work()).encode())

    pid = fork(child)
    with suppress(ProcessLookupError, PermissionError):
        os.setpgid(pid, pid)  # on both sides, whichever is first
    os.close(writing)
    try:
        with open(reading, "rb") as answer:
            text = answer.read()  # until the producer and its readers have all closed their copies
        if not text:
            raise RuntimeError("the producer failed; its error is above")
        rows: list[Row] = json.loads(text)
        return rows
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for left in Path("/dev/shm").glob(f"{PREFIX}*"):  # noqa: S108 - where named segments lie
            left.unlink()


class Team:
    """The producer's end of one control socket per reader. If a reader is gone, it raises instead of waiting."""

    def __init__(self, count: int, read: Callable[[int, socket.socket], None]) -> None:
        self.sockets: list[socket.socket] = []
        for rank in range(1, count + 1):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.sockets.append(ours)
            fork(lambda rank=rank, theirs=theirs: self._run(read, rank, theirs))  # type: ignore[misc]
            theirs.close()
            ours.settimeout(DEADLINE_S)

    def _run(self, read: Callable[[int, socket.socket], None], rank: int, theirs: socket.socket) -> None:
        for inherited in self.sockets:  # otherwise a sibling would keep a dead producer's socket open
            inherited.close()
        read(rank, theirs)

    def tell(self, message: bytes) -> None:
        """Send this to every reader."""
        assert len(message) <= MESSAGE_BYTES_MAX
        for each in self.sockets:
            each.send(message)

    def gather(self) -> list[bytes]:
        """Receive one answer from each. Raises RuntimeError if a reader has ended."""
        answers = [each.recv(MESSAGE_BYTES_MAX) for each in self.sockets]
        if not all(answers):
            raise RuntimeError("a reader has ended")
        return answers

    def ask(self, message: bytes) -> list[bytes]:
        """Send, and wait for the answers."""
        self.tell(message)
        return self.gather()
