"""Runs HAProxy as a child process: writes and checks its files and forwards signals. No request passes through here."""

from __future__ import annotations

import os
import select
import signal
import socket
import stat
import subprocess
import threading
import time
from importlib import resources
from pathlib import Path

from mmplane.process.death import die_with_parent
from mmplane.process.signals import heed
from mmplane.route.configuration import Route, files
from mmplane.route.control import Control
from mmplane.route.program import LIMIT_S, Program

POLL_S = 0.02
FOLDER_BYTES_MAX = 80
"""Maximum length of its path: a UNIX socket's path has at most 107 bytes, and HAProxy first binds a longer name."""


class Router:
    """One HAProxy. It listens on `listener`, which is closed here once HAProxy has it."""

    def __init__(self, program: Program, route: Route, listener: socket.socket) -> None:
        self._program = program
        self._route = route
        self._listener = listener
        self._command = [program.path, "-f", str(route.folder / "haproxy.cfg")]

    def write(self) -> None:
        """Write all files, readable only by the owner, and let HAProxy check them. Raises ValueError."""
        folder = self._route.folder
        lua = resources.files("mmplane.route").joinpath("place.lua").read_bytes()
        try:
            _own(folder)
            for name, content in {"place.lua": lua, **files(self._route)}.items():
                _write(folder / name, content)
        except OSError as error:
            raise ValueError(f"--folder: {folder} cannot be written ({error.strerror})") from None
        checked = subprocess.run(
            [*self._command, "-c"],
            pass_fds=[self._listener.fileno()],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        if checked.returncode:
            raise ValueError(f"HAProxy {self._program.version} refuses the configuration: {checked.stderr.strip()}")

    def run(self) -> _Running:
        """Start it. Returns once it accepts connections; raises ValueError if it does not."""
        signals = heed((signal.SIGTERM, signal.SIGINT))
        parent = os.getpid()
        process = subprocess.Popen(
            [*self._command, "-db"],
            pass_fds=[self._listener.fileno()],
            preexec_fn=lambda: die_with_parent(parent),
        )
        self._listener.close()
        control = Control(self._route.folder)
        deadline_s = time.monotonic() + LIMIT_S
        while not control.answers():
            if process.poll() is not None or time.monotonic() >= deadline_s:
                process.kill()
                process.wait()
                raise ValueError(f"HAProxy did not start ({process.returncode})")
            time.sleep(POLL_S)
        return _Running(process, signals)


class _Running:
    """A running HAProxy that accepts connections."""

    def __init__(self, process: subprocess.Popen[bytes], signals: int) -> None:
        self._process = process
        self._signals = signals
        self._pidfd = os.pidfd_open(process.pid)
        self.ending = threading.Event()
        """Set once it was told to end."""

    @property
    def pid(self) -> int:
        """HAProxy's process id."""
        return self._process.pid

    def end(self) -> None:
        """Let requests in flight end, then wait for it."""
        self._process.send_signal(signal.SIGUSR1)
        self._process.wait()

    def wait(self) -> int:
        """Wait for its exit and return the code, 0 if it was told to end.

        The first signal lets requests in flight continue for at most `drain_s`; the second ends them.
        """
        told = 0
        while True:
            ready, _, _ = select.select([self._signals, self._pidfd], [], [])
            if self._signals in ready:
                os.read(self._signals, 64)
                told += 1
                self.ending.set()
                self._process.send_signal(signal.SIGUSR1 if told == 1 else signal.SIGTERM)
            if self._pidfd in ready:
                code = self._process.wait()
                return 0 if told else code or 1


def _own(folder: Path) -> None:
    """Raises OSError, and ValueError if other users could change the folder."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ValueError(f"--folder: {folder} is open to others, or somebody else's: chmod 700 it")
    if len(os.fsencode(folder)) > FOLDER_BYTES_MAX:
        raise ValueError(f"--folder: {folder} is too long a path for a socket")


def _write(path: Path, content: bytes) -> None:
    """Write the file atomically; from the first byte on only its owner can read it. An empty one is removed."""
    if not content:
        path.unlink(missing_ok=True)
        return
    new = path.with_name(f"{path.name}.new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    new.replace(path)
