"""How long `/health` takes while a hostile client does what it can (hazards R20, S14).

    python benchmarks/strangers.py [--seconds 10] [KIND ...]

Starts a server with a tenant's key and lets each kind of stranger of `tests/process/strangers.py` have it in turn, from
127.0.0.2, while new connections from 127.0.0.1 ask `/health`. Wanted: p99 below 500 ms for each. Strangers, client and
server share the machine, so the figures hold the strangers' own work as well and are an upper bound.
"""

from __future__ import annotations

import argparse
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

PROGRAM = Path(__file__).parents[1] / "tests/process/strangers.py"
PAUSE_SECONDS = 0.02
sys.path.insert(0, str(PROGRAM.parent))


def measure(url: httpx.URL, key: str, kind: str, seconds: float) -> None:
    """One kind, for so long."""
    command = [sys.executable, str(PROGRAM), kind, url.host, str(url.port), key, str(seconds)]
    latencies_ms: list[float] = []
    with subprocess.Popen(command) as stranger:
        while stranger.poll() is None:
            started_s = time.perf_counter()
            httpx.get(url.copy_with(path="/health"), timeout=60).raise_for_status()
            latencies_ms.append((time.perf_counter() - started_s) * 1000)
            time.sleep(PAUSE_SECONDS)
    p99_ms = statistics.quantiles(latencies_ms, n=100, method="inclusive")[-1]
    median_ms = statistics.median(latencies_ms)
    print(f"{kind:18} {len(latencies_ms):6} {median_ms:8.1f} {p99_ms:8.1f} {max(latencies_ms):8.1f}", flush=True)


def main() -> None:
    from strangers import KINDS

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="*", default=list(KINDS), metavar="KIND")
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    key = secrets.token_hex(16)
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
        keys.write(f"{secrets.token_hex(16)}\nalice:{key}\nbob:{secrets.token_hex(16)}\n")
        keys.flush()
        command = [sys.executable, "-m", "mmplane", "serve", "--port", "0", "--api-key-file", keys.name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
            assert server.stdout is not None
            try:
                url = next(found.group(1) for line in server.stdout if (found := re.search(r"at (http://\S+),", line)))
                print(f"{'/health, ms':18} {'asked':>6} {'p50':>8} {'p99':>8} {'max':>8}", flush=True)
                for kind in options.kinds:
                    measure(httpx.URL(url), key, kind, options.seconds)
            finally:
                server.terminate()


if __name__ == "__main__":
    main()
