"""What media costs on SGLang's single threads, with the plugin, without it, and with SGLang's precomputed hash.

    make .venv-sglang/stamp
    .venv/bin/python benchmarks/sglang_plugin.py .venv-sglang --rounds 5 --json sglang.json

The servers run side by side (TP=2) and take turns within each round, in an order that rotates. A turn is 8 requests
at once, each with a photograph of 1288x966 pixels that nobody has sent before. `sglang_probe` times the calls:

- tokenizer: on the event loop, `wrap_shm_features` and `_dispatch_to_scheduler`
- each rank: on the scheduler's thread, opening pointers, `_finalize_shm_features`, `_get_multimodal_inputs`

Bias, declared: the scheduler's `recv_requests` itself (ZMQ, two gloo broadcasts each turn of its loop) is not counted:
it is the same in all three. Hashing in threads is not on the loop, so neither the plugin's nor the precomputed hash is
counted there. Wall time on few cores holds waiting for a core as well: that is what a request sees.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import platform
import signal
import socket
import subprocess
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from PIL import Image
from sklearn.datasets import load_sample_image

from mmplane.models.tiny import build_tiny

ROOT = Path(__file__).parents[1]
START_LIMIT_S = 600.0
SIZE = (1288, 966)
AT_ONCE = 8
ONE_PICTURE = ("--chunked-prefill-size", "2048", "--max-prefill-tokens", "2048")
"""Of 1,610 tokens in each prefill: SGLang's attention over several in one batch takes gigabytes on a CPU."""
KINDS: dict[str, dict[str, str]] = {
    "SGLang": {"SGLANG_PLUGINS": "probe"},
    "SGLang, precomputed hash": {"SGLANG_PLUGINS": "probe", "SGLANG_MM_PRECOMPUTE_HASH": "1"},
    "mmplane": {
        "SGLANG_PLUGINS": "probe,mmplane",
        "MMPLANE_SGLANG_ARENA_BYTES": str(2**30),
        "MMPLANE_SGLANG_PROCESSOR": "off",
    },
}
TOKENIZER = ("wrap_shm_features", "_dispatch_to_scheduler")
RANK = ("__setstate__", "_finalize_shm_features", "_get_multimodal_inputs")


class Server:
    """One of the three."""

    def __init__(self, venv: Path, model: Path, environment: dict[str, str], folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        probe = {"PYTHONPATH": str(Path(__file__).parent / "sglang_probe"), "MMPLANE_PROBE_FOLDER": str(folder)}
        script = ROOT / "tools" / "peers" / "sglang" / "serve.sh"
        command = ["bash", str(script), str(venv), str(model), "2", str(self.port), "--sleep-on-idle", *ONE_PICTURE]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command, env=os.environ | environment | probe, stdout=log, stderr=log, start_new_session=True
            )
        # No connection is kept: between two turns the server would close it.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=300, limits=limits)

    def wait(self) -> None:
        """Until it serves."""
        deadline_s = time.monotonic() + START_LIMIT_S
        while "The server is fired up" not in (self.folder / "log").read_text(errors="replace"):
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                self.kill()
                raise SystemExit("SGLang did not start:\n" + (self.folder / "log").read_text(errors="replace")[-3000:])
            time.sleep(0.2)

    def ask(self, picture: str) -> None:
        """One request, one token."""
        content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": "What is this?"}]
        body = {"model": "tiny", "temperature": 0, "max_tokens": 1, "messages": [{"role": "user", "content": content}]}
        self.http.post("/v1/chat/completions", json=body).raise_for_status()

    def forget(self) -> None:
        """Start counting from here."""
        for file in self.folder.glob("*.jsonl"):
            os.truncate(file, 0)

    def figures(self) -> dict[str, dict[str, list[tuple[float, int]]]]:
        """By role and call: (milliseconds, media requests) of each."""
        found: dict[str, dict[str, list[tuple[float, int]]]] = {}
        for file in sorted(self.folder.glob("*.jsonl")):
            calls = found.setdefault(file.stem, defaultdict(list))
            for line in file.read_text().splitlines():
                name, spent_ms, count = json.loads(line)
                calls[name].append((spent_ms, count))
        return found

    def kill(self) -> None:
        """End it."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def picture(number: int) -> str:
    """A photograph as a data URI; no two numbers have the same."""
    photograph = Image.fromarray(load_sample_image(("china.jpg", "flower.jpg")[number % 2])).resize((1500, 1100))
    left, top = number % 200, number // 200 % 100
    file = io.BytesIO()
    photograph.crop((left, top, left + SIZE[0], top + SIZE[1])).save(file, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def per_request(calls: dict[str, list[tuple[float, int]]], names: tuple[str, ...], requests: int) -> float:
    """Milliseconds of these calls together, for each media request."""
    return sum(spent_ms for name in names for spent_ms, _ in calls.get(name, ())) / requests


def rows(servers: dict[str, Server], requests: int) -> list[dict[str, Any]]:
    """One for each kind of server."""
    made = []
    for kind, server in servers.items():
        figures = server.figures()
        row: dict[str, Any] = {"kind": kind, "requests": requests}
        row["tokenizer_ms"] = per_request(figures["tokenizer"], TOKENIZER, requests)
        for role in ("rank0", "rank1"):
            row[f"{role}_ms"] = per_request(figures[role], RANK, requests)
            row[f"{role}_calls_ms"] = {name: per_request(figures[role], (name,), requests) for name in RANK}
        loop = [spent_ms for name in TOKENIZER for spent_ms, _ in figures["tokenizer"].get(name, ())]
        row["tokenizer_call_ms_p50"], row["tokenizer_call_ms_max"] = median(loop), max(loop)
        made.append(row)
    return made


def show(made: list[dict[str, Any]]) -> None:
    base = made[0]
    print(f"\n{'ms for each media request':28} {'tokenizer loop':>22} {'rank 0 thread':>22} {'rank 1 thread':>22}")
    for row in made:
        names = ("tokenizer_ms", "rank0_ms", "rank1_ms")
        cells = [f"{row[name]:10.3f}  (1/{base[name] / max(row[name], 1e-9):.1f})" for name in names]
        print(f"{row['kind']:28} " + " ".join(f"{cell:>22}" for cell in cells))
    print()
    for row in made:
        for role in ("rank0", "rank1"):
            parts = ", ".join(f"{name} {spent_ms:.3f}" for name, spent_ms in row[f"{role}_calls_ms"].items())
            print(f"{row['kind']:28} {role}: {parts}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venv", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="a server takes 3 GB")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        build_tiny(folder / "tiny")
        servers = {}
        for at, kind in enumerate(options.kinds):
            (folder / str(at)).mkdir()
            servers[kind] = Server(options.venv, folder / "tiny", KINDS[kind], folder / str(at))
            stack.callback(servers[kind].kill)
            servers[kind].wait()
            servers[kind].ask(picture(at))
        for server in servers.values():
            server.forget()
        kinds, number = list(servers), len(servers)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for turn in range(options.rounds):
                pictures = [picture(number + at) for at in range(AT_ONCE)]
                number += AT_ONCE
                for kind in kinds[turn % len(kinds) :] + kinds[: turn % len(kinds)]:
                    list(threads.map(servers[kind].ask, pictures))
                    print(f"round {turn + 1}: {kind}", flush=True)
        made = rows(servers, options.rounds * AT_ONCE)
        show(made)
        if options.json:
            environment = {"cpus": os.cpu_count(), "load": os.getloadavg(), "kernel": platform.release()}
            options.json.write_text(json.dumps({"environment": environment, "rows": made}, indent=1))


if __name__ == "__main__":
    main()
