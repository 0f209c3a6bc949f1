"""Small programs in processes of their own, which report by a pipe and never outlive a test."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HANG_S = 60.0
"""Only tells progress from a hang."""


@contextmanager
def program(
    text: str,
    *,
    pass_fds: tuple[int, ...] = (),
    arguments: tuple[str, ...] = (),
    log: Path | None = None,
    stdin: bool = False,
) -> Iterator[Program]:
    """Run Python text; its first argument is the descriptor to `report` on. What it logs goes to `log`."""
    read, write = os.pipe()
    with (log or Path(os.devnull)).open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + text, str(write), *arguments],
            pass_fds=(write, *pass_fds),
            start_new_session=True,
            stderr=errors if log else None,
            stdin=subprocess.PIPE if stdin else None,
        )
    os.close(write)
    try:
        yield Program(process, read)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(HANG_S)
        if process.stdin is not None:
            process.stdin.close()
        os.close(read)


PREAMBLE = """\
import os, signal, sys
def report(text): os.write(int(sys.argv[1]), f"{text}\\n".encode())
"""


class Program:
    """A running program and what it reports."""

    def __init__(self, process: subprocess.Popen[bytes], read: int) -> None:
        self.process = process
        self._read = read
        self._text = b""

    def line(self) -> str:
        """The next report."""
        while b"\n" not in self._text:
            assert select.select([self._read], [], [], HANG_S)[0], "no report"
            piece = os.read(self._read, 4096)
            assert piece, "it ended without a report"
            self._text += piece
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def ended_by(self) -> int:
        """Its exit code; minus a signal's number."""
        return self.process.wait(HANG_S)


def has_ended(pidfd: int) -> bool:
    """Whether the process ends, waiting for it."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(HANG_S * 1000))
