"""A server under measurement: started with the real command, controlled over HTTP, its processes found by title."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import httpx
import psutil

from mmplane.process.death import die_with_parent

ROLES = ("frontend", "parser", "worker", "rank", "nursery", "supervisor")
RENEWED = ("frontend", "parser", "worker", "rank")
"""Processes that `Server.renew` replaces; without the nursery everything would be imported again."""
STOP_LIMIT_S = 60.0
REQUEST_LIMIT_S = 60.0
RENEW_LIMIT_S = 120.0
POLL_SECONDS = 0.1
LOG_LINES = 20


class Refused(Exception):
    """The server cannot do what the bench asks for. The text says what."""


class Server:
    """One running `mmplane serve`."""

    def __init__(self, url: str, supervisor: psutil.Process, tp: int) -> None:
        self.url = url
        self.tp = tp
        self.supervisor = supervisor
        self._http = httpx.Client(base_url=url, timeout=REQUEST_LIMIT_S)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        url = httpx.URL(self.url)
        assert url.port is not None
        return url.host, url.port

    def named(self) -> list[tuple[str, psutil.Process]]:
        """Return its processes by name: `rank 0`, `supervisor`."""
        found = [("supervisor", self.supervisor)]
        for child in self.supervisor.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                title = (child.cmdline() or [""])[0]
                if title.startswith("mmplane: "):
                    found.append((title.removeprefix("mmplane: ").partition("/")[0], child))
        return found

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Return its processes by role."""
        roles: dict[str, list[psutil.Process]] = {role: [] for role in ROLES}
        for name, process in self.named():
            roles[role_of(name)].append(process)
        return roles

    def statistics(self) -> dict[str, Any]:
        """GET /admin/statistics."""
        statistics: dict[str, Any] = self._http.get("/admin/statistics").raise_for_status().json()
        return statistics

    def requests(self) -> list[dict[str, Any]]:
        """Return the timelines of the last requests that ended, the latest first."""
        recent: list[dict[str, Any]] = self._http.get("/admin/requests").raise_for_status().json()["requests"]
        return recent

    def switch(self, delivery: str, *, cache: bool) -> None:
        """Switch to a delivery for all further requests. Raises Refused if the server cannot."""
        wanted = {"name": delivery, "share": 1.0, "cache": "on" if cache else "off"}
        answer = self._http.put("/admin/delivery", json=wanted)
        if answer.is_error:
            raise Refused(str(answer.json()["error"]["message"]))

    def renew(self) -> None:
        """Replace front end, workers and ranks by fresh processes without memory allocated for other deliveries.

        Raises Refused if they do not come back.
        """
        before = self.processes()
        for process in (each for role in RENEWED for each in before[role]):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        deadline_s = time.monotonic() + RENEW_LIMIT_S
        while time.monotonic() < deadline_s:
            now = self.processes()
            fresh = all(
                len(now[role]) == len(before[role]) and not set(now[role]) & set(before[role]) for role in RENEWED
            )
            if fresh and self._ready():
                return
            time.sleep(POLL_SECONDS)
        raise Refused("the server's processes did not come back after they were replaced")

    def _ready(self) -> bool:
        try:
            return self._http.get("/ready").is_success
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        """Close the connection to the server."""
        self._http.close()


def role_of(name: str) -> str:
    """Return the role of the process with this name: `rank` for `rank 0`."""
    return name.split(" ")[0]


@contextmanager
def serving(model: str, *, tp: int, flags: list[str]) -> Iterator[Server]:
    """Run a server for the duration of the block. Raises Refused with its last log lines if it does not start."""
    command = [sys.executable, "-m", "mmplane", "serve", "--model", model, "--served-model-name", "tiny"]
    command += ["--tp", str(tp), "--port", "0", "--log-level", "warning", *flags]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=partial(die_with_parent, os.getpid())
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if found := re.search(r"mmplane is ready after .* at (http://\S+),", line):
                    break
            else:
                log.seek(0)
                raise Refused("the server did not start:\n" + "".join(log.readlines()[-LOG_LINES:]))
            server = Server(found.group(1), psutil.Process(process.pid), tp)
            try:
                yield server
            finally:
                server.close()
                log.seek(0)
                sys.stderr.writelines(log.readlines()[-LOG_LINES:])  # only warnings, and usually none
        finally:
            process.terminate()
            process.wait(STOP_LIMIT_S)
            process.stdout.close()
