"""A log that nobody reads holds nobody up; what was lost is told; a reader that goes away ends nothing."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable

import pytest
from process_programs import program

PROGRAM = """
import logging
from mmplane.process import logs
from mmplane.process.output import Output, release
os.dup2(int(sys.argv[2]), 2)
os.close(int(sys.argv[2]))
release(2)
logs.begin("json", "info", "frontend")
log = logging.getLogger("mmplane")
for number in range(5000):
    log.info("line %d %s", number, "x" * 900)
report("written")
sys.stdin.readline()
log.info("after that")
Output(1).write("ready")
report("ended")
"""
LINES = 5000
QUIET_S = 0.5


def pipe() -> tuple[int, int]:
    return os.pipe()


def terminal() -> tuple[int, int]:
    return os.openpty()


def journal() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


@pytest.mark.parametrize("kind", [pipe, terminal, journal])
def test_a_stuck_reader(kind: Callable[[], tuple[int, int]]) -> None:
    read, write = kind()
    with program(PROGRAM, pass_fds=(write,), arguments=(str(write),), stdin=True) as one:
        assert one.line() == "written"
        text = drained(read)
        assert 0 < text.count(b"line ") < LINES
        one.process.stdin.write(b"\n")  # type: ignore[union-attr]
        one.process.stdin.flush()  # type: ignore[union-attr]
        assert one.line() == "ended"
        text += drained(read)
    whole = text.replace(b"\r\n", b"\n").splitlines()
    lost = [line for line in whole if b"log lines were lost" in line]  # a terminal makes room in between
    numbers = [int(line.split(b'"message":"')[1].split()[0]) for line in lost]
    assert numbers
    assert sum(numbers) + sum(b'"message":"line ' in line for line in whole) == LINES
    assert b"after that" in whole[-1]
    for descriptor in (read, write):
        os.close(descriptor)


@pytest.mark.parametrize("kind", [pipe, journal])
def test_a_reader_that_is_gone(kind: Callable[[], tuple[int, int]]) -> None:
    read, write = kind()
    with program(PROGRAM, pass_fds=(write,), arguments=(str(write),), stdin=True) as one:
        os.close(write)
        os.close(read)
        assert one.line() == "written"
        one.process.stdin.close()  # type: ignore[union-attr]
        assert one.line() == "ended"
        assert one.ended_by() == 0


def drained(read: int) -> bytes:
    """All that is there. A thread of the kernel moves what was written to a terminal to its reader, and may be late."""
    text = b""
    while select.select([read], [], [], QUIET_S)[0] and (piece := os.read(read, 65536)):
        text += piece
    return text
