"""How long does a second start take?

    python benchmarks/start.py [--starts 3] [--model tiny] [--tp 2]

Starts a server once, so that everything is cached that a start leaves behind, then `--starts` times more. For each it
prints the seconds from the command to `ready`, what the log says meanwhile and when, and the seconds of CPU that each
process has taken until then. Wanted: at most 15 s, in the median, on two idle cores.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import psutil

from mmplane.observe.processes import process_cpu_s

SECONDS_MAX = 15.0
STOP_LIMIT_S = 60.0


@dataclass(frozen=True)
class Start:
    """One start. `lines` are those of the log, with the seconds at which they came; CPU is in seconds, by title."""

    seconds: float
    lines: list[tuple[float, str]]
    cpu_s: dict[str, float]


def start(model: str, tp: int) -> Start:
    """Start a server with the flags of `make serve`, and end it when it is ready."""
    command = [sys.executable, "-m", "mmplane", "serve", "--model", model, "--tp", str(tp), "--port", "0"]
    began_s, lines = time.monotonic(), []
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout is not None
    try:
        for line in server.stdout:
            seconds = time.monotonic() - began_s
            if "is ready after" in line:
                return Start(seconds, lines, _cpu_s(server.pid))
            lines.append((seconds, line.strip().partition(" INFO ")[2] or line.strip()))
    finally:
        server.terminate()
        server.wait(STOP_LIMIT_S)
    raise SystemExit("\n".join(line for _, line in lines))


def _cpu_s(root: int) -> dict[str, float]:
    processes = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    return {each.cmdline()[0].removeprefix("mmplane: "): process_cpu_s(each.pid) for each in processes}


def main() -> int:
    """0 if the median is short enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--tp", type=int, default=2)
    options = parser.parse_args()
    start(options.model, options.tp)
    starts = [start(options.model, options.tp) for _ in range(options.starts)]
    for each in starts:
        print(f"\nready after {each.seconds:.2f} s, with {sum(each.cpu_s.values()):.2f} s of CPU")
        for seconds, line in each.lines:
            print(f"  {seconds:6.2f} s  {line[:100]}")
        for title, cpu_s in each.cpu_s.items():
            print(f"  {cpu_s:6.2f} s of CPU  {title}")
    median_s = statistics.median(each.seconds for each in starts)
    cpu_s = statistics.median(sum(each.cpu_s.values()) for each in starts)
    print(f"\nmedian of {len(starts)}: {median_s:.2f} s, {cpu_s:.2f} s of CPU (wanted: at most {SECONDS_MAX:g} s)")
    return 0 if median_s <= SECONDS_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
