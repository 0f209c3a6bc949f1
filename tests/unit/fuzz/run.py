"""Runs each fuzz target for so many seconds, in processes with a memory limit: `python tests/unit/fuzz/run.py 60`."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

TARGETS = ("data_uri", "header", "embeddings", "schema", "record")
DATA_BYTES_MAX = 2 << 30
EXAMPLES = "2000"
"""Of one round, after which the next begins with another seed."""


def main() -> int:
    """The exit status: 1 when a target failed."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    file = Path(__file__).with_name("test_targets.py")
    environment = os.environ | {"MMPLANE_FUZZ_EXAMPLES": EXAMPLES}
    for target in TARGETS:
        until_s = time.monotonic() + seconds
        rounds = 0
        while time.monotonic() < until_s:
            command = [sys.executable, "-m", "pytest", "-q", str(file), "-k", f"test_{target}", "--timeout", "600"]
            found = subprocess.run(command, env=environment, check=False, preexec_fn=_limit, stdout=subprocess.PIPE)
            rounds += 1
            if found.returncode != 0:
                print(found.stdout.decode(errors="replace"))
                return 1
        print(f"{target}: {rounds} rounds of {EXAMPLES} examples", flush=True)
    return 0


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES_MAX, DATA_BYTES_MAX))


if __name__ == "__main__":
    sys.exit(main())
