"""One preloaded process for the whole test session, from which servers are forked: importing torch is paid once.

A forked server is `mmplane serve` with its arguments, environment and output, and the same tree of processes below it:
its supervisor forks its nursery where it would have executed one. Tests of how a server starts, or of its nursery's or
supervisor's death, and those that change its code, run the real command: see `Live`.

What this costs in truth: the supervisor of a forked server has torch in its memory.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, NoReturn

import setproctitle

from mmplane.process import nursery, spawner

REQUEST_BYTES_MAX = 64 * 1024
ENDED_LIMIT_S = 30.0


class Preloaded:
    """The test session's side: starts the process when it is first needed, with `env` beside its own environment."""

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self._env = env or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def serve(self, arguments: Sequence[str], env: dict[str, str], stdout: int, stderr: int) -> Forked:
        """Fork `mmplane ARGUMENTS` with this environment and output."""
        if self._control is None:
            self._start()
        assert self._control is not None
        read, write = os.pipe()
        try:
            request = json.dumps({"arguments": list(arguments), "env": env}).encode()
            socket.send_fds(self._control, [request], [stdout, stderr, write])
        finally:
            os.close(write)
        return Forked(read)

    def close(self) -> None:
        """End it, and every server that it still has."""
        if self._control is None:
            return
        assert self._process is not None
        self._control.close()
        self._process.wait(ENDED_LIMIT_S)
        self._control = self._process = None

    def _start(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * REQUEST_BYTES_MAX)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment(self._env) | spawner._ENVIRONMENT,
            )


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's with `more`; a folder of modules comes before those that are there."""
    path = os.pathsep.join(filter(None, (more.get("PYTHONPATH"), os.environ.get("PYTHONPATH"))))
    return {**os.environ, **more} | ({"PYTHONPATH": path} if path else {})


class Forked:
    """A forked server, with what the tests use of `subprocess.Popen`. A pipe tells its number and its exit code."""

    def __init__(self, read: int) -> None:
        self._told = os.fdopen(read, "rb", buffering=0)
        self._code: int | None = None
        self.pid = int(self._told.readline())
        self._pidfd = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._told_within(0)

    def wait(self, limit_s: float) -> int:
        """The exit code. Raises TimeoutExpired."""
        if self._told_within(limit_s) is None:
            raise subprocess.TimeoutExpired("mmplane serve", limit_s)
        assert self._code is not None
        return self._code

    def send_signal(self, number: signal.Signals) -> None:
        """As Popen does: nothing happens when it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # ended since
                signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _told_within(self, limit_s: float) -> int | None:
        if self._code is None and select.select([self._told], [], [], limit_s)[0]:
            self._code = int(self._told.readline())
            self._told.close()
            os.close(self._pidfd)
        return self._code


PRELOADED = Preloaded()


def serve(control: socket.socket) -> None:
    """The preloaded process: fork a server for each request, say when it has ended, until the session is gone."""
    servers: dict[int, tuple[int, int]] = {}
    poller = select.poll()
    poller.register(control, select.POLLIN)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor in servers:
                poller.unregister(descriptor)
                _tell_the_end(descriptor, *servers.pop(descriptor))
                continue
            request, descriptors, *_ = socket.recv_fds(control, REQUEST_BYTES_MAX, 3)
            if not request:
                for pidfd in servers:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                return
            stdout, stderr, told = descriptors
            pid = _fork(lambda request=request, out=stdout, err=stderr: _serve(request, out, err))  # type: ignore[misc]
            os.write(told, f"{pid}\n".encode())
            os.close(stdout)
            os.close(stderr)
            pidfd = os.pidfd_open(pid)
            servers[pidfd] = (pid, told)
            poller.register(pidfd, select.POLLIN)


def _tell_the_end(pidfd: int, pid: int, told: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(told, f"{code}\n".encode())
    os.close(told)
    os.close(pidfd)


def _fork(become: Callable[[], Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        become()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _serve(request: bytes, stdout: int, stderr: int) -> NoReturn:
    """Become `mmplane serve`."""
    asked = json.loads(request)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    sys.stdout = os.fdopen(1, "w", closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = ["mmplane", *asked["arguments"]]
    spawner.subprocess = SimpleNamespace(Popen=_fork_a_nursery, DEVNULL=subprocess.DEVNULL)  # type: ignore[assignment]
    importlib.import_module("mmplane.commands.main").main(asked["arguments"])
    sys.exit(0)


def _fork_a_nursery(command: list[str], pass_fds: list[int], env: dict[str, str], **_: Any) -> SimpleNamespace:
    """Stands in for `subprocess.Popen` in the supervisor."""

    def become() -> None:
        os.setsid()
        (control,) = pass_fds
        os.closerange(3, control)
        os.closerange(control + 1, os.sysconf("SC_OPEN_MAX"))
        signal.set_wakeup_fd(-1)
        os.environ.update(env)
        sys.argv = command[2:]
        nursery.main()

    return SimpleNamespace(pid=_fork(become), returncode=None)


def main() -> None:
    """`python preloaded.py CONTROL_DESCRIPTOR`."""
    setproctitle.setproctitle("tests: preloaded")  # at once: it looks for its room in the environment as it is now
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the session, which ends this one
    for module in (*nursery.PRELOADED["server"], "mmplane.commands.main", "mmplane.commands.serve"):
        importlib.import_module(module)
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        serve(control)


if __name__ == "__main__":
    main()
