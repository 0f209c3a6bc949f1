"""What does an idle server cost?

    python benchmarks/idle.py [--seconds 30] [--tp 2] [--workers 2]

Starts a server with the built-in model, sends nothing, and prints for each process the milliseconds of CPU and the
wake-ups per second, over all of its threads. Wanted: at most 3 ms a second for all processes together. Read from
/proc, in nanoseconds (`schedstat`); reading wakes nobody up.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

SETTLE_SECONDS = 5.0
"""After the first picture: caches are warm, the probe's answer is done."""
CPU_MS_MAX = 3.0


@dataclass(frozen=True)
class Cost:
    """Of one process since it started."""

    cpu_ms: float
    wakes: int

    def since(self, before: Cost) -> Cost:
        """What came in between."""
        return Cost(self.cpu_ms - before.cpu_ms, self.wakes - before.wakes)


def cost(pid: int) -> Cost:
    """Over all threads: time on a core, and how often one went to sleep by itself."""
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    cpu_ns = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
    wakes = sum(
        int(found[1]) for task in tasks if (found := re.search(r"\nvolunt\w+:\s+(\d+)", (task / "status").read_text()))
    )
    return Cost(cpu_ns / 1e6, wakes)


def costs(root: int) -> dict[str, Cost]:
    """By title, for the whole tree of processes."""
    processes = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    return {each.cmdline()[0].removeprefix("mmplane: "): cost(each.pid) for each in processes}


def main() -> None:
    """Measure, print a table, fail above the budget."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--tp", default="2")
    parser.add_argument("--workers", default="2")
    options = parser.parse_args()
    command = [sys.executable, "-m", "mmplane", "serve", "--model", "tiny", "--port", "0", "--log-level", "warning"]
    command += ["--tp", options.tp, "--workers", options.workers]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        print(next(line for line in server.stdout if "mmplane is ready" in line).strip())
        time.sleep(SETTLE_SECONDS)
        before = costs(server.pid)
        time.sleep(options.seconds)
        spent = {title: now.since(before[title]) for title, now in costs(server.pid).items()}
    finally:
        server.terminate()
        server.wait(30)
    for title, each in spent.items():
        print(f"{title:12} {each.cpu_ms / options.seconds:6.2f} ms/s {each.wakes / options.seconds:6.1f} wake-ups/s")
    total_ms = sum(each.cpu_ms for each in spent.values()) / options.seconds
    print(f"{'together':12} {total_ms:6.2f} ms/s (at most {CPU_MS_MAX:g})")
    sys.exit(total_ms > CPU_MS_MAX)


if __name__ == "__main__":
    main()
