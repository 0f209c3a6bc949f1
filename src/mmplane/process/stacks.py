"""Finds out where a process is stuck: its Python stacks, written on a signal, or the kernel's view of it."""

from __future__ import annotations

import faulthandler
import os
import re
import signal
from pathlib import Path

SIGNAL = signal.SIGUSR1
CRASHED = "Fatal Python error:"
"""The beginning of the stacks of a process that crashes (SIGSEGV, SIGBUS)."""
STACKS_BYTES_MAX = 64 * 1024
KERNEL_CHARACTERS_MAX = 1000
STATE_BYTES = 128
"""Enough of /proc/PID/stat to contain its third field."""
STOPPED = ("T", "t")
"""The states of a process that was stopped, by a signal or by a debugger."""
WAITING = "D"
"""The state of a process that waits for the disk, including in a page fault."""
SHORT_PERCENT = 5.0
"""Memory is short if some process has waited for it during this share of the last ten seconds."""


def answer_with_stacks(descriptor: int) -> None:
    """From now on, this process writes the stacks of all its threads there on `SIGNAL`, or when it crashes."""
    faulthandler.register(SIGNAL, file=descriptor, all_threads=True)
    faulthandler.enable(file=descriptor, all_threads=True)


class Stacks:
    """The supervisor's end of one child's pipe."""

    def __init__(self) -> None:
        self._read, self.write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.crashed = False
        """Whether the child has reported a crash."""

    def handed_over(self) -> None:
        """The child now has the writing end."""
        os.close(self.write)

    def written(self) -> str:
        """Everything written since the last call."""
        try:
            text = os.read(self._read, STACKS_BYTES_MAX).decode(errors="replace")
        except BlockingIOError:
            return ""
        self.crashed |= CRASHED in text
        return text

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._read)


def state_of(pid: int) -> str:
    """The kernel's letter for the process's state (R, S, D, T, Z); empty if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return file.read(STATE_BYTES).rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return ""


def memory_is_short(path: str = "/proc/pressure/memory") -> bool:
    """Whether processes wait for memory, from the kernel's pressure stall information; False if there is none."""
    try:
        found = re.match(r"some avg10=([\d.]+)", Path(path).read_text())
    except OSError:
        return False
    return found is not None and float(found[1]) >= SHORT_PERCENT


def kernel_side(pid: int) -> str:
    """What /proc shows: state, memory and threads, what it waits for, and the kernel's stack if we may read it."""
    found = []
    for name in ("status", "wchan", "syscall", "stack"):
        try:
            text = Path(f"/proc/{pid}/{name}").read_text()
        except OSError:  # it is gone, or we may not read it
            continue
        if name == "status":
            wanted = ("State", "Threads", "VmRSS", "SigQ")
            text = " ".join(" ".join(line.split()) for line in text.splitlines() if line.startswith(wanted))
        found.append(f"{name}: {text.strip()[:KERNEL_CHARACTERS_MAX]}")
    return "\n".join(found)
