"""What Ray runs on each machine: an actor that starts one command of mmplane there, and starts it again when it ends.

It imports neither Ray nor what it starts: the import of Ray alone costs a process 12 to 14 s of CPU, so there is one
actor for a machine and never one for a worker. A thread starts the command, and only that one: the kernel ends a child
with the thread that started it (`mmplane.process.death`), and this thread ends with the actor.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

import msgspec

from mmplane.process.handle import Handle
from mmplane.ray.wanted import Standing

DRAIN_S = 20.0
"""How long the command may take to end after SIGTERM."""
STEADY_S = 60.0
"""What ran for so long is started again at once when it ends."""
BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 60.0
_FOREVER_S = 3600.0


class Host:
    """Keeps one command running. Arguments and answers are bytes of records: nothing of ours is pickled."""

    def __init__(self, words: bytes, starter: str = "mmplane.ray.starter") -> None:
        """`words`: the command line after `mmplane`, as msgpack. `starter` is the module that becomes it."""
        self._words = msgspec.msgpack.decode(words, type=tuple[str, ...])
        self._starter = starter
        self._lock = threading.Lock()
        """Held to start the command, and to decide that it is not started any more."""
        self._ending = threading.Event()
        self._handle: Handle | None = None
        self._started_s = 0.0
        self._starts = 0
        self._last_code: int | None = None
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def standing(self) -> bytes:
        """A `Standing` as msgpack."""
        with self._lock:
            pid = self._handle.pid if self._handle else 0
            up_s = time.monotonic() - self._started_s if pid else 0.0
            return msgspec.msgpack.encode(Standing(pid, up_s, self._starts, self._last_code))

    def end(self) -> None:
        """Once it returns, the command has ended, and is not started again."""
        with self._lock:
            self._ending.set()
            if self._handle is not None:
                self._handle.signal(signal.SIGTERM)
        self._thread.join(DRAIN_S)
        with self._lock:
            if self._handle is not None:
                self._handle.kill()
        self._thread.join()

    def _keep(self) -> None:
        wait_s = 0.0
        while not self._ending.wait(wait_s):
            try:
                lived_s = self._live()
            except OSError as error:  # the system refuses another process now
                lived_s = 0.0
                print(f"mmplane cannot be started now: {error}", file=sys.stderr, flush=True)
            wait_s = backoff_s(lived_s, wait_s)

    def _live(self) -> float:
        """One life of the command, in seconds. Raises OSError."""
        with self._lock:
            if self._ending.is_set():
                return 0.0
            handle = self._handle = self._start()
        while not handle.wait(_FOREVER_S):
            pass
        with self._lock:
            lived_s = time.monotonic() - self._started_s
            self._last_code = _code(handle)
            self._handle = None
        print(f"mmplane ended with {self._last_code} after {lived_s:.0f} s", file=sys.stderr, flush=True)
        return lived_s

    def _start(self) -> Handle:
        command = [sys.executable, "-m", self._starter, str(os.getpid()), *self._words]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=cleared(os.environ))
        process.returncode = 0  # the handle reaps it, Popen must not
        self._starts += 1
        self._started_s = time.monotonic()
        return Handle.of_child(process.pid)


def backoff_s(lived_s: float, last_s: float) -> float:
    """How long to wait before the next start, after a life of `lived_s` before which `last_s` were waited."""
    return 0.0 if lived_s >= STEADY_S else min(BACKOFF_MAX_S, max(BACKOFF_FIRST_S, 2 * last_s))


def cleared(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what Ray sets for its own processes: its token, and one thread for each library."""
    return {name: value for name, value in environment.items() if not name.startswith(("RAY_", "OMP_NUM_THREADS"))}


def _code(handle: Handle) -> int | None:
    """How it ended; None where somebody else has collected it."""
    try:
        result = os.waitid(os.P_PIDFD, handle.pidfd, os.WEXITED)
    except ChildProcessError:
        result = None
    os.close(handle.pidfd)
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
