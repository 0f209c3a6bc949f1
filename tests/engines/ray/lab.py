"""Machines with real raylets: namespaces of network, mounts and processes, joined by veth. Needs root.

Ray listens on all interfaces of a machine, so it is never started outside of one of these. The first process of each
collects orphans, and all that runs in a machine ends with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from machines import Network

from polling import until

ROOT = Path(__file__).parents[3]
BIN = ROOT / ".venv-ray" / "bin"
PORT = 6379
LIMIT_S = 240.0
"""Ray takes 30 s to start here, and more on a busy machine. It only tells progress from a hang."""
FIRST = """
mkdir -p /tmp/ray; mount -t tmpfs tmpfs /tmp/ray; mount -t tmpfs -o size=1g tmpfs /dev/shm
mount --bind {hosts} /etc/hosts; hostname machine-{number}; echo up
while :; do sleep 1000 & wait; done
"""
SET = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "2",
    # How long raylets live on without a GCS; a minute by default.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
}


def address(number: int) -> str:
    return f"10.91.0.{number + 1}"


class Running:
    """A command in a machine, and what it prints."""

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self._popen = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self) -> tuple[int, str]:
        """Its exit code and all that it printed."""
        code = self._popen.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        return code, "".join(self.lines)

    def said(self, text: str) -> str:
        """The line with this text, once there is one."""

        def found() -> str:
            assert self._popen.poll() is None or any(text in line for line in self.lines), "".join(self.lines)
            return next((line for line in self.lines if text in line), "")

        line: str = until(found, LIMIT_S, f"{text!r} is said")
        return line

    def stop(self) -> None:
        for process in psutil.Process(self._popen.pid).children():
            process.send_signal(signal.SIGINT)
        self.wait()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self.lines.append(line)
        self._popen.stdout.close()


class Machine:
    """One machine. Whatever it runs has a token, unless it is started without."""

    def __init__(self, network: Network, number: int, folder: Path, settings: dict[str, str]) -> None:
        self.number = number
        self._settings = settings
        self._begun: list[Running] = []
        self._folder = folder
        hosts = folder / f"hosts-{number}"
        hosts.write_text(f"127.0.0.1 localhost\n{address(number)} machine-{number}\n")
        first = FIRST.format(hosts=hosts, number=number)
        words = ["ip", "netns", "exec", network.space(number), "unshare", "-m", "-p", "-u", "-f", "--kill-child"]
        self._first = subprocess.Popen(
            [*words, "--mount-proc", "bash", "-c", first], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        assert self._first.stdout is not None
        assert self._first.stdout.readline() == b"up\n"
        (self._one,) = psutil.Process(self._first.pid).children()

    def begin(self, *words: str, token: bool = True) -> Running:
        """Start a command of the environment with Ray, or the executable of a path."""
        environment = {
            **os.environ,
            **SET,
            **self._settings,
            "HOME": str(self._folder),
            "PYTHONPATH": str(ROOT / "src"),
        }
        if token:
            environment["RAY_AUTH_TOKEN_PATH"] = str(self._folder / "token")
        enter = ["nsenter", "-t", str(self._one.pid), "-n", "-m", "-p", "-u"]
        self._begun.append(Running([*enter, str(BIN / words[0]), *words[1:]], environment))
        return self._begun[-1]

    def run(self, *words: str, token: bool = True) -> tuple[int, str]:
        return self.begin(*words, token=token).wait()

    def start_ray(self, head: bool = False) -> None:
        """Join the cluster, or begin one."""
        where = ["--head", "--port", str(PORT), "--include-dashboard=false"] if head else [
            "--address", f"{address(0)}:{PORT}"
        ]  # fmt: skip
        code, said = self.run(
            "ray", "start", *where, f"--node-ip-address={address(self.number)}", "--num-cpus=1",
            "--object-store-memory=100000000", "--include-log-monitor=false", "--disable-usage-stats",
        )  # fmt: skip
        assert code == 0, said

    def processes(self, chosen: Callable[[str], bool]) -> list[psutil.Process]:
        """Those of this machine whose command line is chosen."""
        found = []
        for process in self._all():
            try:
                if chosen(" ".join(process.cmdline())):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def end(self) -> None:
        """Pull the plug."""
        if self._first.poll() is None:
            self._one.kill()
            self._first.wait(LIMIT_S)
            for running in self._begun:
                running.wait()
        assert self._first.stdout is not None
        self._first.stdout.close()

    def _all(self) -> list[psutil.Process]:
        """Every process in this machine's namespace of processes."""
        here = Path(f"/proc/{self._one.pid}/ns/pid").readlink()
        found = []
        for process in psutil.process_iter():
            try:
                if Path(f"/proc/{process.pid}/ns/pid").readlink() == here:
                    found.append(process)
            except OSError:
                continue
        return found


class Server:
    """`mmplane serve` in a machine, asked from inside its network."""

    def __init__(self, network: Network, machine: Machine, *flags: str) -> None:
        self._network = network
        self._machine = machine
        self.running = machine.begin("mmplane", "serve", "--port", "0", *flags)
        line = self.running.said("mmplane is ready after")
        self._url = line.partition(" at ")[2].partition(",")[0]

    def ask(self, content: list[Any]) -> tuple[int, Any]:
        """A chat request; its status and answer."""
        body = {"model": "tiny", "max_tokens": 1, "temperature": 0, "mmplane": {"trace": True}}
        return self._http("/v1/chat/completions", body | {"messages": [{"role": "user", "content": content}]})

    def machines(self) -> list[dict[str, Any]]:
        """Media machines that have joined."""
        found: list[dict[str, Any]] = self._http("/admin/statistics")[1]["workers"]["machines"]
        return found

    def _http(self, path: str, body: Any = None) -> tuple[int, Any]:
        content = None if body is None else json.dumps(body).encode()
        status, answer = fetched(self._network, self._url + path, content)
        return status, json.loads(answer)


def answers(network: Network, url: str) -> int:
    """The status that machine 0 gets there; 0 without an answer."""
    try:
        return fetched(network, url)[0]
    except OSError:
        return 0


def fetched(network: Network, url: str, content: bytes | None = None) -> tuple[int, bytes]:
    """Status and answer, asked from inside of machine 0. Raises OSError when nobody answers."""
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"})
    with network.inside(0):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


@contextmanager
def machines(count: int, folder: Path, **settings: str) -> Iterator[tuple[Network, list[Machine]]]:
    """So many machines, with these variables beside `SET`. One that ended in a test stays away."""
    (folder / "token").write_text("f" * 64)
    network = Network(count - 1)
    made: list[Machine] = []
    try:
        made.extend(Machine(network, number, folder, settings) for number in range(count))
        yield network, made
    finally:
        for machine in made:
            machine.end()
        network.close()
