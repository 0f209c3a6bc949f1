"""The environment of a measurement, which is stamped on every result."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("mmplane", "torch", "transformers", "numpy", "pillow", "simplejpeg", "av", "msgspec", "uvloop", "uvicorn")


LOOK_SECONDS = 2.0


def environment(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the machine, the versions, the command, and how busy the machine was; takes two seconds."""
    return {
        "command": shlex.join(["mmplane", "bench", *arguments]),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": os.getloadavg()[0],
        "others_cores": others_cores(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def others_cores(seconds: float = LOOK_SECONDS) -> float:
    """Measure how many cores other processes use over this many seconds. Time taken by a hypervisor is not visible."""
    before, began_s = _busy_s(), time.monotonic()
    time.sleep(seconds)
    return max(0.0, (_busy_s() - before) / (time.monotonic() - began_s))


def _busy_s() -> float:
    """CPU seconds of the machine so far, without this process."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq) - time.process_time()


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of a source tree, or None for an installed package."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return found.stdout.strip() or None
