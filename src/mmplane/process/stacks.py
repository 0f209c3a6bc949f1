"""Where a process stands: its Python stacks, by a signal, and what the kernel says of it where it cannot answer.

The process writes into a pipe that its supervisor made, and never waits for it: a pipe holds 64 KiB, and what does not
fit is lost. faulthandler writes from within the signal, so a loop in C that holds the GIL is seen as well; a process
that is stopped, or waits in the kernel for good, writes nothing.
"""

from __future__ import annotations

import faulthandler
import os
import re
import signal
from pathlib import Path

SIGNAL = signal.SIGUSR1
CRASHED = "Fatal Python error:"
"""How stacks begin that a process writes when the kernel ends it for what it did (SIGSEGV, SIGBUS)."""
STACKS_BYTES_MAX = 64 * 1024
KERNEL_CHARACTERS_MAX = 1000
STATE_BYTES = 128
"""Enough of /proc/PID/stat for its third field."""
STOPPED = ("T", "t")
"""The states of a process that was stopped, by a signal or by a debugger."""
WAITING = "D"
"""The state of a process that waits for the disk, also in a page fault."""
SHORT_PERCENT = 5.0
"""Of the last ten seconds: so long has somebody waited for memory where it is short."""


def answer_with_stacks(descriptor: int) -> None:
    """From now on this process writes all its threads' stacks there when it gets `SIGNAL`, or crashes."""
    faulthandler.register(SIGNAL, file=descriptor, all_threads=True)
    faulthandler.enable(file=descriptor, all_threads=True)


class Stacks:
    """The supervisor's end of one child's pipe."""

    def __init__(self) -> None:
        self._read, self.write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.crashed = False
        """Whether the child has written that the kernel ends it for what it did."""

    def handed_over(self) -> None:
        """The child has the end to write into."""
        os.close(self.write)

    def written(self) -> str:
        """What has been written since the last time."""
        try:
            text = os.read(self._read, STACKS_BYTES_MAX).decode(errors="replace")
        except BlockingIOError:
            return ""
        self.crashed |= CRASHED in text
        return text

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._read)


def state_of(pid: int) -> str:
    """The kernel's letter for what the process does (R, S, D, T, Z); empty when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return file.read(STATE_BYTES).rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return ""


def memory_is_short(path: str = "/proc/pressure/memory") -> bool:
    """Whether processes wait for memory, as the kernel's pressure stall information says; False where it says none."""
    try:
        found = re.match(r"some avg10=([\d.]+)", Path(path).read_text())
    except OSError:
        return False
    return found is not None and float(found[1]) >= SHORT_PERCENT


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
