"""One process with all imports for the whole test session, from which servers are forked: importing torch is paid once.

This template forks a copy of itself for each `Preloaded`, which may change the code in its copy, and the copy forks
servers. All processes of pytest-xdist share the template.

A forked server is `mmplane serve` with its arguments, environment, network and output, and the same tree of processes
below it: its supervisor forks its nursery where it would have executed one. Tests of how a server starts, or of its
nursery's or supervisor's death, run the real command: see `Live`.

What this costs in truth: the supervisor of a forked server has torch in its memory.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import setproctitle

from mmplane.process import nursery, spawner

ADDRESS = "MMPLANE_TEST_TEMPLATE"
"""The variable with the folder of the template that another process of this session has started."""
REQUEST_BYTES_MAX = 64 * 1024
ENDED_LIMIT_S = 30.0
RUN_LIMIT_S = 120.0
_CLONE_NEWNET = 0x40000000


class Template:
    """The process with all imports, started with `env` when it is first needed, or another's, whose `folder` is given.

    In its folder are its socket, on which each connection gets a copy of it, and what it says when something fails.
    """

    def __init__(self, env: Mapping[str, str] | None = None, folder: str = "") -> None:
        self._env = env or {}
        self._folder = Path(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = bool(folder)

    def start(self) -> str:
        """Its folder; it imports while this process goes on, and ends with this process."""
        self._folder = Path(tempfile.mkdtemp(prefix="mmplane-tests-"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, open(self._folder / "log", "w") as log:
            listener.bind(str(self._folder / "socket"))
            listener.listen(64)
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(listener.fileno())],
                stdin=subprocess.PIPE,  # its end tells the template that this process has ended
                stdout=log,
                stderr=log,
                pass_fds=[listener.fileno()],
                env=environment(self._env) | spawner._ENVIRONMENT,
            )
        self._started = True
        atexit.register(self.close)
        return str(self._folder)

    def copy(self, env: Mapping[str, str]) -> socket.socket:
        """The connection to a copy with `env`; a `sitecustomize` in the folder that is its PYTHONPATH runs there."""
        if not self._started:
            self.start()
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * REQUEST_BYTES_MAX)
        with suppress(ConnectionError):
            control.connect(str(self._folder / "socket"))
            control.send(json.dumps(dict(env)).encode())
            if control.recv(1):
                return control
        control.close()
        raise AssertionError(f"there is no copy of the template:\n{(self._folder / 'log').read_text()}")

    def close(self) -> None:
        """End it; nothing happens when it is another's."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(ENDED_LIMIT_S)
        shutil.rmtree(self._folder)
        self._process, self._started = None, False


TEMPLATE = Template(folder=os.environ.get(ADDRESS, ""))


class Preloaded:
    """What servers are forked from: a copy of the template with `env`, made when it is first needed."""

    def __init__(self, env: Mapping[str, str] | None = None, template: Template = TEMPLATE) -> None:
        self._env = env or {}
        self._template = template
        self._control: socket.socket | None = None

    def serve(self, arguments: Sequence[str], env: dict[str, str], stdout: int, stderr: int) -> Forked:
        """Fork `mmplane ARGUMENTS` with this environment and output, in the network of this thread."""
        if self._control is None:
            self._control = self._template.copy(self._env)
        read, write = os.pipe()
        try:
            request = json.dumps({"arguments": list(arguments), "env": env}).encode()
            with open("/proc/thread-self/ns/net") as network:
                socket.send_fds(self._control, [request], [stdout, stderr, network.fileno(), write])
        finally:
            os.close(write)
        return Forked(read)

    def run(self, *arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Exit code and output of one that ends by itself; `env` is added to its environment."""
        with tempfile.TemporaryFile("w+") as output:
            whole = {**os.environ, **(env or {})}
            code = self.serve(arguments, whole, output.fileno(), output.fileno()).wait(RUN_LIMIT_S)
            output.seek(0)
            return code, output.read()

    def close(self) -> None:
        """End the copy, and every server that it still has."""
        if self._control is None:
            return
        with self._control as control:
            control.shutdown(socket.SHUT_WR)
            control.settimeout(ENDED_LIMIT_S)
            control.recv(1)  # until it has ended
        self._control = None


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
    """A copy: fork a server for each request, say when it has ended, until nobody asks any more."""
    servers: dict[int, tuple[int, int]] = {}
    poller = select.poll()
    poller.register(control, select.POLLIN)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor in servers:
                poller.unregister(descriptor)
                _tell_the_end(descriptor, *servers.pop(descriptor))
                continue
            request, descriptors, *_ = socket.recv_fds(control, REQUEST_BYTES_MAX, 4)
            if not request:
                for pidfd in servers:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                return
            *inherited, told = descriptors
            pid = _fork(lambda request=request, inherited=inherited: _serve(request, *inherited))  # type: ignore[misc]
            os.write(told, f"{pid}\n".encode())
            for each in inherited:
                os.close(each)
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


def _serve(request: bytes, stdout: int, stderr: int, network: int) -> NoReturn:
    """Become `mmplane serve`."""
    asked = json.loads(request)
    if os.fstat(network).st_ino != Path("/proc/self/ns/net").stat().st_ino:
        enter_network(network)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    sys.stdout = os.fdopen(1, "w", closefd=False)
    tempfile.tempdir = None  # by its own environment
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = ["mmplane", *asked["arguments"]]
    spawner.subprocess = SimpleNamespace(Popen=_fork_a_nursery, DEVNULL=subprocess.DEVNULL)  # type: ignore[assignment]
    importlib.import_module("mmplane.commands.main").main(asked["arguments"])
    sys.exit(0)


def enter_network(descriptor: int) -> None:
    """Put this thread, and what it forks, into a network namespace."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


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


def _copy(connection: socket.socket, listener: socket.socket) -> None:
    """A copy of the template, with the environment and the code that its first message asks for."""
    listener.close()
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    env = json.loads(connection.recv(REQUEST_BYTES_MAX))
    folder = env.pop("PYTHONPATH", None)
    os.environ.update(env)
    if folder:
        sys.path.insert(0, folder)
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")
    connection.send(b"!")  # it is ready
    serve(connection)


def main() -> None:
    """`python preloaded.py LISTENING_SOCKET`: the template, until its standard input ends."""
    setproctitle.setproctitle("tests: preloaded")  # at once: it looks for its room in the environment as it is now
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the session, which ends this one
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how copies end
    for module in ("mmplane.commands.main", "mmplane.commands.serve"):
        importlib.import_module(module)
    nursery.preload("server")
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        while listener in select.select([0, listener], [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                _fork(lambda connection=connection: _copy(connection, listener))  # type: ignore[misc]


if __name__ == "__main__":
    main()
