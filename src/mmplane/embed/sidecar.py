"""A sidecar as a child of this process: nothing extra to install, start or clean up."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Literal, Required, Self, TypedDict, Unpack

from mmplane.core.records import BackendName, DecodeProfile
from mmplane.embed.client import Client, connect
from mmplane.embed.errors import SidecarError
from mmplane.embed.hold import SidecarHold
from mmplane.embed.media import MediaSource
from mmplane.process.notify import VARIABLE as NOTIFY_VARIABLE

SidecarEncoding = Literal["auto", "float32", "model", "uint8", "bfloat16", "float16", "uint8_copies"]
START_SECONDS = 300.0
"""Enough to compile kernels."""
STOP_SECONDS = 10.0
SAID_BYTES_MAX = 4096
SOCKET = "socket"

_begun: weakref.WeakSet[subprocess.Popen[bytes]] = weakref.WeakSet()
"""The sidecars that this process has started."""


class Settings(TypedDict, total=False):
    """The settings of a sidecar. The defaults are those of `mmplane sidecar --help`."""

    model: Required[str | os.PathLike[str] | None]
    """A checkpoint's folder or a hub id; None: it only carries features of producers (`put`, `draft`)."""
    workers: int | None
    arena_bytes: int | None
    producers_bytes: int | None
    """The total for the regions of all producers (`connect(arena_bytes=...)`)."""
    backend: BackendName
    encoding: SidecarEncoding
    profile: DecodeProfile
    """Which image loader to match: that of the engine that takes the features."""
    generic: bool
    """Whether workers run transformers' own processor if there is no fast one; they need torch for it."""


class Sidecar:
    """`mmplane sidecar`, run by this process and ended with it, or at the end of the block.

    `socket` is the path that other processes attach to, in a folder that only this user can read.
    """

    def __init__(self, process: subprocess.Popen[bytes], folder: str) -> None:
        self._process = process
        self._folder = folder
        self._said = b""
        self._stopping = Lock()
        self._stopped = False
        self.socket = str(Path(folder) / SOCKET)

    @classmethod
    def start(cls, **settings: Unpack[Settings]) -> Self:
        """Start a sidecar, and wait until a worker has warmed up.

        Raises SidecarError if it ends before that or is not ready within `START_SECONDS`.
        """
        sidecar = cls.begin(**settings)
        try:
            sidecar.wait()
        except BaseException:
            sidecar.stop()
            raise
        return sidecar

    @classmethod
    def begin(cls, **settings: Unpack[Settings]) -> Self:
        """Start a sidecar without waiting. Call `wait`, or attach with a `wait_s`."""
        folder = tempfile.mkdtemp(prefix="mmplane-")
        return cls(_process(folder, settings), folder)

    def otherwise(self, **settings: Unpack[Settings]) -> None:
        """If it ends before it is ready, start another one at the same socket. Returns at once; call it once.

        The sidecar logs why it has ended. Processes that are attaching attach to the other one.
        """
        Thread(target=self._replace, args=(settings,), name="mmplane: another sidecar", daemon=True).start()

    def _replace(self, settings: Settings) -> None:
        with suppress(SidecarError, ValueError, OSError):  # the last two if it is stopped in the meantime
            return self.wait()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with self._stopping:
            if not self._stopped and self._process.poll() is not None:
                _close(self._process)
                self._process = _process(self._folder, settings)
        return None

    def wait(self) -> None:
        """Wait until a worker has warmed up. Raises SidecarError, like `start`."""
        assert self._process.stdout is not None
        if self._said:
            return
        poller = select.poll()  # select() supports descriptors up to 1023, and an engine may have more
        poller.register(self._process.stdout, select.POLLIN)
        if not poller.poll(START_SECONDS * 1000):
            raise SidecarError(f"the sidecar is not ready after {START_SECONDS:g} s: see its log")
        self._said = os.read(self._process.stdout.fileno(), SAID_BYTES_MAX)
        if not self._said:
            raise SidecarError("the sidecar ended before it was ready: see its log on standard error")

    def connect(self, *, arena_bytes: int = 0) -> Client:
        """Attach this process as a producer."""
        return connect(self.socket, arena_bytes=arena_bytes)

    def map(self, medias: Iterable[MediaSource], **how: Any) -> Iterator[SidecarHold | SidecarError]:
        """`Client.map` with its own client, which detaches at the end. Raises what that raises."""
        with self.connect() as client:
            yield from client.map(medias, **how)

    def stop(self) -> None:
        """End the sidecar. Attached clients get Lost. May be called again."""
        with self._stopping:
            self._stopped = True
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _close(self._process)
        with suppress(FileNotFoundError):
            shutil.rmtree(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _let_go() -> None:
    """In a forked child: a sidecar ends when its pipe does, so only its launcher may hold the pipe."""
    for process in _begun:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


os.register_at_fork(after_in_child=_let_go)


def _process(folder: str, settings: Settings) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mmplane", "sidecar", *_flags(settings)]
    command += ["--socket", str(Path(folder) / SOCKET), "--stop-on-eof"]
    # The sidecar must not report whether this process's service is ready.
    inherited = {name: value for name, value in os.environ.items() if name != NOTIFY_VARIABLE}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=inherited)
    _begun.add(process)
    return process


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()


def _flags(settings: Settings) -> list[str]:
    model = settings["model"]
    given = {
        "model": None if model is None else os.fspath(model),
        "workers": settings.get("workers"),
        "arena-bytes": settings.get("arena_bytes"),
        "producers-bytes": settings.get("producers_bytes"),
        "backend": settings.get("backend"),
        "encoding": settings.get("encoding"),
        "decode-profile": settings.get("profile"),
    }
    flags = [f"--{name}={value}" for name, value in given.items() if value is not None]
    return flags + ["--generic"] * settings.get("generic", False) + ["--carry-only"] * (model is None)
