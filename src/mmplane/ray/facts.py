"""What a machine of a Ray cluster is set to, read where Ray runs. It reads names and numbers, never a token.

Ray's processes inherit the environment of `ray start`, and this runs in one of them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from mmplane.core.records import Record

SETTINGS = (
    "RAY_AUTH_MODE",
    "RAY_USAGE_STATS_ENABLED",
    "RAY_USE_TLS",
    "RAY_gcs_storage",
    "RAY_health_check_failure_threshold",
    "RAY_health_check_period_ms",
    "RAY_health_check_timeout_ms",
    "RAY_memory_monitor_refresh_ms",
)
"""Variables that are read. The one with the token is not among them."""
PORTS_MAX = 256
_LISTENING = "0A"


class Facts(Record, frozen=True):
    """One machine. `settings` are `SETTINGS` as Ray's processes have them here."""

    machine: str
    ray: str
    mmplane: str
    settings: dict[str, str]
    gcs: dict[str, str] | None
    """The same of the cluster's GCS, where it runs here."""
    redis: bool
    """The GCS that runs here keeps what it knows in Redis."""
    open_ports: tuple[int, ...]
    """On which Ray's processes listen on all interfaces."""
    client: bool
    """Ray Client's server runs here."""


def read() -> bytes:
    """This machine's `Facts`, as msgpack."""
    running = dict(_running())
    gcs = next((pid for pid, words in running.items() if Path(words[0]).name == "gcs_server"), None)
    return msgspec.msgpack.encode(
        Facts(
            socket.gethostname(),
            _version("ray"),
            _version("mmplane"),
            chosen(os.environ),
            chosen(_environment(gcs)) if gcs else None,
            gcs is not None and any(word.startswith("--redis_address=") for word in running[gcs]),
            _open_ports(pid for pid, words in running.items() if is_rays(words)),
            any("ray.util.client.server" in word for words in running.values() for word in words),
        )
    )


def chosen(environment: Mapping[str, str]) -> dict[str, str]:
    """Those of `SETTINGS` that are set."""
    return {name: environment[name] for name in SETTINGS if name in environment}


def is_rays(words: list[str]) -> bool:
    """Whether this is the command line of one of Ray's processes."""
    return words[0].startswith("ray::") or any("/ray/" in word for word in words[:3])


def listening(table: str) -> Iterator[tuple[str, int]]:
    """(inode, port) of each socket that listens on all interfaces, of a text as `/proc/net/tcp` has it."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        address, _, port = fields[1].partition(":")
        if fields[3] == _LISTENING and not int(address, 16):
            yield fields[9], int(port, 16)


def _open_ports(pids: Iterable[int]) -> tuple[int, ...]:
    ports: dict[str, int] = {}
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            ports |= listening(Path("/proc/self/net", name).read_text())
    inodes = {inode for pid in pids for inode in _sockets(pid)}
    return tuple(sorted({port for inode, port in ports.items() if inode in inodes})[:PORTS_MAX])


def _sockets(pid: int) -> Iterator[str]:
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                target = str(entry.readlink())
                if target.startswith("socket:["):
                    yield target[len("socket:[") : -1]


def _running() -> Iterator[tuple[int, list[str]]]:
    """Processes and their command lines."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if content := (entry / "cmdline").read_bytes():
                yield int(entry.name), content.decode(errors="replace").rstrip("\0").split("\0")


def _environment(pid: int) -> dict[str, str]:
    with suppress(OSError):
        pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
        return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
    return {}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
