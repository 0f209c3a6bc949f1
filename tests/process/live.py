"""A real server under test: started by the real command, spoken to by real clients, its processes seen by psutil."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from books import busy
from preloaded import PRELOADED, Forked, Preloaded, environment

from polling import until

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background by a script: servers under test would ignore SIGINT as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)

START_LIMIT_S = 120.0
STOP_LIMIT_S = 60.0
SETTLE_LIMIT_S = 60.0


def network_here() -> int:
    """The network namespace of this thread. A test that makes its own networks enters them."""
    return Path("/proc/thread-self/ns/net").stat().st_ino


class Live:
    """One `mmplane serve` and its process tree.

    It is forked from what is preloaded, unless it must be `executed` as users do, or is given limits.
    """

    def __init__(
        self,
        model_folder: Path | str,
        *flags: str,
        tp: int = 2,
        env: dict[str, str] | None = None,
        limits: Callable[[], None] | None = None,
        log_path: str | None = None,
        executed: bool = False,
        preloaded: Preloaded = PRELOADED,
    ) -> None:
        arguments = ["serve", "--model", str(model_folder), "--served-model-name", "tiny", "--tp", str(tp)]
        arguments += ["--port", "0", "--arena-bytes", str(256 * 2**20), "--kv-bytes", str(256 * 2**20), *flags]
        self._lines: deque[str] = deque(maxlen=2000)
        read, write = os.pipe()
        self._stdout = os.fdopen(read)
        with open(log_path, "w") if log_path else nullcontext(None) as file, os.fdopen(write, "w") as stdout:
            stderr = file or stdout
            self._process: Forked | subprocess.Popen[bytes]
            if executed or limits:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "mmplane", *arguments],
                    stdout=stdout,
                    stderr=stderr,
                    env=environment(env or {}),
                    preexec_fn=limits,
                )
            else:
                self._process = preloaded.serve(arguments, os.environ | (env or {}), stdout.fileno(), stderr.fileno())
        self.supervisor = psutil.Process(self._process.pid)
        self.url = ""
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not (self._ready.wait(START_LIMIT_S) and self.url):
            ended = self._process.poll() is not None
            self.kill()
            self._close()
            raise AssertionError(f"{'ended before it was' if ended else 'not'} ready:\n" + "".join(self.log))
        self.http = httpx.Client(base_url=self.url, timeout=60)
        self._told_to_end = False
        self.network = network_here()
        """The network namespace that it is reached in."""
        RUNNING.append(self)

    def _read(self) -> None:
        for line in self._stdout:
            self._lines.append(line)
            if found := re.search(r"mmplane is ready after .* at (http://\S+),", line):
                self.url = found.group(1)
                self._ready.set()
        self._ready.set()

    @property
    def log(self) -> list[str]:
        """Its last lines that have been read: what it says of an answer may come later than the answer."""
        return list(self._lines)

    def processes(self) -> dict[str, psutil.Process]:
        """Every process of the server, by title without `mmplane: `."""
        found = {}
        for process in [self.supervisor, *self.supervisor.children(recursive=True)]:
            try:
                title = next(iter(process.cmdline()), "")  # it may end at any moment
            except psutil.NoSuchProcess:
                continue
            if title.startswith("mmplane: "):
                found[title.removeprefix("mmplane: ")] = process
        return found

    def pids(self) -> dict[str, int]:
        """Process ids by title."""
        return {title: process.pid for title, process in self.processes().items()}

    def statistics(self) -> dict[str, Any]:
        """GET /admin/statistics."""
        statistics: dict[str, Any] = self.http.get("/admin/statistics").raise_for_status().json()
        return statistics

    def settle(self, limit_s: float = SETTLE_LIMIT_S) -> None:
        """Wait until nothing is in flight, leased, written or reserved. Raises AssertionError with what still is.

        Nothing is asked of a server that has ended, or was told to.
        """
        seen: list[object] = []

        def quiet() -> bool:
            with suppress(httpx.HTTPError):
                seen[:] = [busy(self.statistics())]
            return self._told_to_end or self._process.poll() is not None or seen == [{}]

        try:
            until(quiet, limit_s, "nothing is in flight, leased, written or reserved")
        except AssertionError as error:
            raise AssertionError(f"{error}: {seen}") from None

    def chat(self, content: Any, **fields: Any) -> httpx.Response:
        """POST a chat request with one user message."""
        body = {"model": "tiny", "max_tokens": 8, "temperature": 0, "messages": [{"role": "user", "content": content}]}
        return self.http.post("/v1/chat/completions", json=body | fields)

    def signal(self, number: signal.Signals) -> None:
        """Send the supervisor a signal."""
        self._told_to_end = True
        self._process.send_signal(number)

    def wait(self, limit_s: float = STOP_LIMIT_S) -> int:
        """The supervisor's exit code."""
        return self._process.wait(limit_s)

    def kill(self) -> None:
        """End everything at once, whatever state it is in."""
        self._told_to_end = True
        self._process.kill()
        self._process.wait(STOP_LIMIT_S)

    def stop(self) -> None:
        """As Ctrl-C does."""
        if self in RUNNING:
            RUNNING.remove(self)
        if self._process.poll() is None:
            self.signal(signal.SIGINT)
            self.wait()
        self.http.close()
        self._close()

    def _close(self) -> None:
        self._reader.join(STOP_LIMIT_S)
        self._stdout.close()


RUNNING: list[Live] = []
"""Those that have not been stopped."""


def alive(pids: Iterator[int] | list[int]) -> list[int]:
    """Those of `pids` that are still processes (zombies are dead)."""
    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            pass
    return found


@contextmanager
def serving(model_folder: Path | str, *flags: str, tp: int = 2, **more: Any) -> Iterator[Live]:
    """A server for one test, ended with it."""
    live = Live(model_folder, *flags, tp=tp, **more)
    try:
        yield live
        live.settle()
    finally:
        live.stop()


def shared_memory() -> set[str]:
    """What lies in /dev/shm."""
    return {path.name for path in Path("/dev/shm").iterdir()}
