"""Machines as network namespaces joined by veth pairs through a bridge: a server in one, media machines in others."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import psutil
from live import START_LIMIT_S, STOP_LIMIT_S, Live
from preloaded import PRELOADED, enter_network

from certificates import write_certificate
from mmplane.machines.pin import pin_of_file
from polling import until

_networks = count(1)
PORT = 9100
SERVER = "10.91.0.1"
JOINING = ("--join-host", SERVER, "--join-port", str(PORT), "--join-max", "2")


class Network:
    """Namespaces `0` (the server's) and 1 to `machines`, each with one address on one bridge. Needs root."""

    def __init__(self, machines: int) -> None:
        self._name = f"mmplane{os.getpid()}-{next(_networks)}"
        self._count = machines + 1
        self._switch = f"{self._name}-switch"
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge", "up")
        for number in range(self._count):
            space = self.space(number)
            _ip("netns", "add", space)
            _ip(
                "link",
                "add",
                "eth",
                "netns",
                space,
                "type",
                "veth",
                "peer",
                "name",
                f"p{number}",
                "netns",
                self._switch,
            )
            _ip("-n", space, "addr", "add", f"10.91.0.{number + 1}/24", "dev", "eth")
            _ip("-n", space, "link", "set", "eth", "up")
            _ip("-n", space, "link", "set", "lo", "up")
            _ip("-n", self._switch, "link", "set", f"p{number}", "master", "bridge")
            self.link(number, up=True)

    def space(self, number: int) -> str:
        return f"{self._name}-{number}"

    def link(self, number: int, *, up: bool) -> None:
        """Plug this machine's cable in, or pull it."""
        _ip("-n", self._switch, "link", "set", f"p{number}", "up" if up else "down")

    def received_bytes(self, number: int) -> int:
        """What has come to this machine."""
        command = ["ip", "netns", "exec", self.space(number), "cat", "/sys/class/net/eth/statistics/rx_bytes"]
        return int(subprocess.run(command, check=True, capture_output=True).stdout)

    @contextmanager
    def inside(self, number: int) -> Iterator[None]:
        """This thread, and what it starts, in that machine's network."""
        with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{self.space(number)}") as there:
            enter_network(there.fileno())
            try:
                yield
            finally:
                enter_network(before.fileno())

    def close(self) -> None:
        for space in (*map(self.space, range(self._count)), self._switch):
            subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True)


class Outpost:
    """One `mmplane worker` in the network of machine `number`, and its process tree."""

    def __init__(self, network: Network, number: int, key: Path, *flags: str, workers: bool = True) -> None:
        arguments = [
            "worker",
            "--join",
            f"{SERVER}:{PORT}",
            "--cluster-key-file",
            str(key),
            "--name",
            f"machine-{number}",
        ]
        arguments += [*(("--workers", "2", "--arena-bytes", str(128 * 2**20)) if workers else ()), *flags]
        self._lines: deque[str] = deque(maxlen=2000)
        self._joined = threading.Event()
        self.joins = 0
        """How often it has joined. It may be lost and back before anybody looks."""
        read, write = os.pipe()
        self._output = os.fdopen(read)
        with network.inside(number), os.fdopen(write, "w") as output:
            self._process = PRELOADED.serve(arguments, dict(os.environ), output.fileno(), output.fileno())
        self.supervisor = psutil.Process(self._process.pid)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def log(self) -> list[str]:
        """Its last lines that have been read."""
        return list(self._lines)

    def wait_until_joined(self) -> None:
        assert self._joined.wait(START_LIMIT_S), "".join(self.log)
        assert self._process.poll() is None, "".join(self.log)

    def process(self, title: str) -> psutil.Process:
        """The one with this title, without `mmplane: `, once there is one: it may just be replaced."""
        found: psutil.Process = until(lambda: self._find(title), START_LIMIT_S, f"there is a {title}")
        return found

    def has_other(self, title: str, lost: psutil.Process) -> bool:
        """Whether there is one with this title, and it is not that one."""
        return self._find(title) not in (None, lost)

    def _find(self, title: str) -> psutil.Process | None:
        for process in self.supervisor.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if process.cmdline()[:1] == [f"mmplane: {title}"]:
                    return process
        return None

    def kill(self) -> None:
        """The whole machine at once."""
        for process in (self.supervisor, *self.supervisor.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # the others die with their supervisor
                process.send_signal(signal.SIGKILL)
        self._process.wait(STOP_LIMIT_S)

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(STOP_LIMIT_S)
        self._reader.join(STOP_LIMIT_S)
        self._output.close()

    def _read(self) -> None:
        for line in self._output:
            self._lines.append(line)
            if re.search(r" INFO joined ", line):
                self.joins += 1
            if re.search(r"mmplane worker has joined", line):
                self._joined.set()
        self._joined.set()


def machines(live: Live) -> list[str]:
    """Names of those that have joined."""
    return [each["machine"] for each in live.statistics()["workers"]["machines"]]


def made_away(live: Live) -> int:
    """How many items the machines that are there have made."""
    return sum(each["items"] for each in live.statistics()["workers"]["machines"])


def write_key(folder: Path, content: bytes = b"k" * 40) -> Path:
    path = folder / "cluster.key"
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def tls_flags(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of a server with a new certificate, and of its machines."""
    path = write_certificate(folder / "cluster.pem")
    return ("--join-cert-file", str(path)), ("--join-pin", pin_of_file(path.read_bytes()))


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
