"""Adds, removes and lists the replicas of a running router through HAProxy's control socket."""

from __future__ import annotations

import csv
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmplane.route.configuration import AUTHORITIES, server
from mmplane.route.replica import Replica, numbered

ANSWER_BYTES_MAX = 4 * 1024 * 1024
LIMIT_S = 10.0
POLL_S = 0.1
MAINTENANCE = "MAINT"
"""State of a replica that is being removed while requests are in flight."""


@dataclass(frozen=True)
class Standing:
    """A replica as the router sees it."""

    name: str
    number: int
    state: str
    """`UP`, `DOWN`, `MAINT`, with HAProxy's additions."""
    requests: int
    """Requests in flight."""
    total: int


class Control:
    """The control socket in a router's folder. Every call may raise ValueError with a text for the operator."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "control.sock"

    def answers(self) -> bool:
        """Whether a router is running there."""
        try:
            self._say("show version")
        except ValueError:
            return False
        return True

    def standings(self) -> list[Standing]:
        """Every replica."""
        rows = csv.DictReader(self._say("show stat replicas 4 -1").removeprefix("# ").splitlines())
        return [
            Standing(row["svname"], int(row["sid"]), row["status"], int(row["scur"]), int(row["stot"])) for row in rows
        ]

    def add(self, replica: Replica) -> None:
        """Add a replica, or one again that is being removed. It gets requests as soon as it is ready.

        A host name is resolved once, now.
        """
        standings = {each.name: each for each in self.standings()}
        there = standings.get(replica.name)
        if there is not None and there.state != MAINTENANCE:
            raise ValueError(f"{replica.name} is a replica already")
        if replica.tls and not (self._folder / AUTHORITIES).exists():
            raise ValueError("the router was started without --replica-ca, so it takes no https:// replicas")
        name = f"replicas/{replica.name}"
        if there is None:
            number = numbered([replica], [each.number for each in standings.values()])[replica]
            self._do(f"add server {name} {_address(replica)} id {number} {server(replica)}", "New server registered.")
        self._do(f"enable health {name}")
        self._do(f"enable server {name}; set server {name} health down")  # until a check has passed
        self._tell({*standings, replica.name})

    def remove(self, replica: Replica, wait_s: float) -> int:
        """Stop sending requests to a replica; it is removed once those in flight have ended.

        Return how many were still in flight after `wait_s`: they continue, and the replica stays in maintenance.
        """
        names = [each.name for each in self.standings()]
        if replica.name not in names:
            raise ValueError(f"{replica.name} is not one of {', '.join(names)}")
        self._tell([name for name in names if name != replica.name])
        self._do(f"set server replicas/{replica.name} state maint")
        deadline_s = time.monotonic() + wait_s
        while requests := next(each.requests for each in self.standings() if each.name == replica.name):
            if time.monotonic() >= deadline_s:
                return requests
            time.sleep(POLL_S)
        self._do(f"del server replicas/{replica.name}", "Server deleted.")
        return 0

    def _tell(self, names: Iterable[str]) -> None:
        """Replicas that may get requests without media."""
        listed = list(names)
        self._do(f"mmplane replicas {' '.join(listed)}", f"{len(listed)} replicas")

    def _do(self, command: str, expected: str = "") -> None:
        answer = self._say(command).strip()
        if answer != expected:
            raise ValueError(f"the router refused the command: {answer:.200}")

    def _say(self, command: str) -> str:
        answer = b""
        try:
            with socket.socket(socket.AF_UNIX) as end:
                end.settimeout(LIMIT_S)
                end.connect(str(self._path))
                end.sendall(command.encode() + b"\n")
                while piece := end.recv(65536):
                    answer += piece
                    if len(answer) > ANSWER_BYTES_MAX:
                        raise OSError("its answer is too long")
        except OSError as error:
            raise ValueError(f"no router answers at {self._path} ({error.strerror or error})") from None
        return answer.decode(errors="replace")


def _address(replica: Replica) -> str:
    try:
        found = socket.getaddrinfo(replica.host, replica.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(f"{replica.host} is not known ({error.strerror})") from None
    return f"{found[0][4][0]}:{replica.port}"
