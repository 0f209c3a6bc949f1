"""Where a process stands: its Python stacks, by a signal, and what the kernel says of it where it cannot answer.

The process writes into a pipe that its supervisor made, and never waits for it: a pipe holds 64 KiB, and what does not
fit is lost. faulthandler writes from within the signal, so a loop in C that holds the GIL is seen as well; a process
that is stopped, or waits in the kernel for good, writes nothing.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from pathlib import Path

SIGNAL = signal.SIGUSR1
STACKS_BYTES_MAX = 64 * 1024
KERNEL_CHARACTERS_MAX = 1000
STOPPED = ("T", "t")
"""The states of a process that was stopped, by a signal or by a debugger."""


def answer_with_stacks(descriptor: int) -> None:
    """From now on this process writes all its threads' stacks there when it gets `SIGNAL`."""
    faulthandler.register(SIGNAL, file=descriptor, all_threads=True)


class Stacks:
    """The supervisor's end of one child's pipe."""

    def __init__(self) -> None:
        self._read, self.write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def handed_over(self) -> None:
        """The child has the end to write into."""
        os.close(self.write)

    def written(self) -> str:
        """What has been written since the last time."""
        try:
            return os.read(self._read, STACKS_BYTES_MAX).decode(errors="replace")
        except BlockingIOError:
            return ""

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._read)


def state_of(pid: int) -> str:
    """The kernel's letter for what the process does (R, S, D, T, Z); empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def kernel_side(pid: int) -> str:
    """What /proc says: state, memory and threads, what it waits for, and the kernel's stack where we may read it."""
    found = []
    for name in ("status", "wchan", "syscall", "stack"):
        try:
            text = Path(f"/proc/{pid}/{name}").read_text()
        except OSError:  # it is gone, or this is not for us
            continue
        if name == "status":
            wanted = ("State", "Threads", "VmRSS", "SigQ")
            text = " ".join(" ".join(line.split()) for line in text.splitlines() if line.startswith(wanted))
        found.append(f"{name}: {text.strip()[:KERNEL_CHARACTERS_MAX]}")
    return "\n".join(found)
