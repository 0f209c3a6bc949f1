"""A real sidecar under test: forked from the session's preloaded process, its processes seen by psutil."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import psutil
from preloaded import PRELOADED, Forked, Preloaded

from mmplane import Client, Lost
from polling import pause

START_LIMIT_S = 120.0
STOP_LIMIT_S = 60.0


class LiveSidecar:
    """One `mmplane sidecar` and its process tree."""

    def __init__(self, model_folder: Path, path: Path, *flags: str, preloaded: Preloaded = PRELOADED) -> None:
        self.path = path
        arguments = ["sidecar", "--model", str(model_folder), "--socket", str(path), *flags]
        read, write = os.pipe()
        self._process: Forked = preloaded.serve(arguments, dict(os.environ), write, 2)
        os.close(write)
        ready = select.select([read], [], [], START_LIMIT_S)[0] and os.read(read, 4096)
        os.close(read)
        assert ready, "the sidecar ended before it was ready"
        self.said = ready.decode()
        self.supervisor = psutil.Process(self._process.pid)

    def client(self, **how: Any) -> Client:
        return Client(self.path, limit_s=STOP_LIMIT_S, **how)

    def process(self, title: str) -> psutil.Process:
        """The one of this title: `sidecar` is the keeper."""
        for process in self.supervisor.children(recursive=True):
            if process.cmdline()[:1] == [f"mmplane: {title}"]:
                return process
        raise AssertionError(f"there is no {title}")

    def kill(self) -> None:
        """SIGKILL for the supervisor: the kernel ends the rest."""
        self._process.kill()
        self._process.wait(STOP_LIMIT_S)

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(STOP_LIMIT_S)


def until(client: Client, holds: Callable[[dict[str, Any]], object], *, limit_s: float = 60.0) -> dict[str, Any]:
    """The sidecar's figures as soon as they are so; of its successor if it has ended meanwhile."""
    began_s = monotonic()
    figures: dict[str, Any] = {}
    while (waited_s := monotonic() - began_s) < limit_s:
        try:
            figures = client.statistics()
        except Lost:
            client.wait()
            continue
        if holds(figures):
            return figures
        pause(waited_s)
    raise AssertionError(f"not within {limit_s} s: {figures}")


def at_rest(figures: dict[str, Any]) -> bool:
    """Nothing is asked, held, leased or written, and nobody's end is waited for."""
    total = figures["arena"]["total"]
    busy = ("requests", "holds", "leases", "parted", "strays")
    return (
        not any(figures[each] for each in busy)
        and total["free_bytes"] + total["evictable_bytes"] == total["length_bytes"]
    )


@contextmanager
def sidecar(model_folder: Path, path: Path, *flags: str, **more: Any) -> Iterator[LiveSidecar]:
    live = LiveSidecar(model_folder, path, *flags, **more)
    try:
        yield live
    finally:
        live.stop()
