"""A sidecar as a child of this process: nothing extra to install, start or clean up."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from mmplane.core.records import BackendName, DecodeProfile
from mmplane.embed.client import Client, connect
from mmplane.embed.errors import SidecarError
from mmplane.embed.hold import SidecarHold
from mmplane.embed.media import MediaSource

SidecarEncoding = Literal["auto", "float32", "model", "uint8", "bfloat16", "float16", "uint8_copies"]
START_SECONDS = 300.0
"""Kernels may have to be compiled."""
STOP_SECONDS = 10.0
SAID_BYTES_MAX = 4096
SOCKET = "socket"


class Sidecar:
    """`mmplane sidecar`, run by this process and ended with it, or at the end of the block.

    `socket` is the path that other processes attach to: in a folder of this user alone.
    """

    def __init__(self, process: subprocess.Popen[bytes], folder: str) -> None:
        self._process = process
        self._folder = folder
        self.socket = str(Path(folder) / SOCKET)

    @classmethod
    def start(
        cls,
        *,
        model: str | os.PathLike[str],
        workers: int | None = None,
        arena_bytes: int | None = None,
        backend: BackendName = "pil",
        encoding: SidecarEncoding = "auto",
        profile: DecodeProfile = "mmplane",
        generic: bool = False,
    ) -> Self:
        """Start one for this model's folder, and return once a worker is warm.

        `profile` is whose loader images are decoded as: the engine's that takes the features. With `generic` its
        workers run transformers itself where no fast path exists; they need torch for it.

        Raises SidecarError with what it said, if it ends before that or is not ready within `START_SECONDS`.
        """
        folder = tempfile.mkdtemp(prefix="mmplane-")
        given = {
            "workers": workers,
            "arena-bytes": arena_bytes,
            "backend": backend,
            "encoding": encoding,
            "decode-profile": profile,
        }
        flags = [f"--{name}={value}" for name, value in given.items() if value is not None]
        command = [sys.executable, "-m", "mmplane", "sidecar", "--model", os.fspath(model), *flags]
        command += ["--generic"] * generic
        command += ["--socket", str(Path(folder) / SOCKET), "--stop-on-eof"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        sidecar = cls(process, folder)
        try:
            sidecar._wait()
        except BaseException:
            sidecar.stop()
            raise
        return sidecar

    def connect(self, *, arena_bytes: int = 0) -> Client:
        """Attach this process as a producer."""
        return connect(self.socket, arena_bytes=arena_bytes)

    def map(self, medias: Iterable[MediaSource], **how: Any) -> Iterator[SidecarHold | SidecarError]:
        """`Client.map` by a client of its own, which detaches at the end. Raises what that raises."""
        with self.connect() as client:
            yield from client.map(medias, **how)

    def stop(self) -> None:
        """End it. Clients that are attached get Lost. May be called again."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        with suppress(FileNotFoundError):
            shutil.rmtree(self._folder)

    def _wait(self) -> None:
        """It says one line when it is ready, and nothing before."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], START_SECONDS)[0]:
            raise SidecarError(f"the sidecar is not ready after {START_SECONDS:g} s: see its log")
        if not os.read(self._process.stdout.fileno(), SAID_BYTES_MAX):
            raise SidecarError("the sidecar ended before it was ready: see its log on standard error")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
