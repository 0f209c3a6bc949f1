"""What media costs in vLLM's engine core and workers, with the plugin and without.

    make .venv-vllm/stamp
    .venv/bin/python benchmarks/vllm_plugin.py .venv-vllm --rounds 7 --json vllm.json

The servers run side by side (TP=2) and take turns within each round, in an order that rotates. A turn is 8 requests, 4
at once, each with a photograph of 1288x966 pixels that nobody has sent before; then the same 8 photographs with another
text before them, so that no prefix is cached; then 8 requests of text alone that are as long, which is the floor: what
a request costs in these threads whatever carries its pictures. `vllm_probe` takes the CPU of the threads:

- core: the engine core's main thread, `schedule` and `enqueue`, for each new request
- worker: each worker's main thread, from the end of its wait in `dequeue` on, and `_apply_mm_cache`
- message: bytes from the API server to the engine beside the prompt's token ids

Bias, declared: the engine core's input thread and the API server are not counted (`benchmarks/vllm_front.py`). The
model has one vision layer, so the encoder does not hide the rest.
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
from typing import Any

import httpx
from PIL import Image
from sklearn.datasets import load_sample_image

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "tools" / "peers" / "vllm"
START_LIMIT_S = 600.0
SIZE = (1288, 966)
REQUESTS, AT_ONCE = 8, 4
LONG = 196
"""Words of eight letters, a token each: as many as the photograph has."""
KINDS: dict[str, dict[str, str]] = {
    "vLLM": {"VLLM_PLUGINS": "probe"},
    "carry": {"VLLM_PLUGINS": "probe,mmplane", "MMPLANE_VLLM": "carry"},
    "make,carry": {"VLLM_PLUGINS": "probe,mmplane", "MMPLANE_VLLM": "make,carry"},
}
PARTS = {"core_ms": ("core", 1), "worker_ms": ("worker", 2), "message_bytes": ("front", 1)}
"""What is shown: a role, and how many processes of it there are."""


class Server:
    """One of them."""

    def __init__(self, venv: Path, model: Path, environment: dict[str, str], folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        path = os.pathsep.join(filter(None, [str(Path(__file__).parent / "vllm_probe"), os.environ.get("PYTHONPATH")]))
        probe = {"PYTHONPATH": path, "MMPLANE_PROBE_FOLDER": str(folder), "MMPLANE_VLLM_ARENA_BYTES": str(2**30)}
        command = ["bash", str(PEERS / "serve.sh"), str(venv), str(model), "2", str(port)]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command, env=os.environ | environment | probe, stdout=log, stderr=log, start_new_session=True
            )
        # No connection is kept: between two turns the server would close it.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300, limits=limits)

    def wait(self) -> None:
        """Until it serves."""
        deadline_s = time.monotonic() + START_LIMIT_S
        while not self._is_healthy():
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                self.kill()
                raise SystemExit("vLLM did not start:\n" + (self.folder / "log").read_text(errors="replace")[-3000:])
            time.sleep(0.2)

    def _is_healthy(self) -> bool:
        try:
            return self.http.get("/health").is_success
        except httpx.HTTPError:
            return False

    def ask(self, asked: tuple[str | None, str]) -> None:
        """One request, one token."""
        picture, words = asked
        content: list[dict[str, Any]] = [{"type": "text", "text": words}]
        if picture is not None:
            content.append({"type": "image_url", "image_url": {"url": picture}})
        body = {"model": "tiny", "temperature": 0, "max_tokens": 1, "messages": [{"role": "user", "content": content}]}
        self.http.post("/v1/chat/completions", json=body).raise_for_status()

    def take(self) -> dict[str, tuple[float, int]]:
        """The sum and the count of each role's figures since the last time."""
        found: dict[str, tuple[float, int]] = {}
        for file in sorted(self.folder.glob("*.jsonl")):
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            os.truncate(file, 0)
            role = file.name.partition(".")[0]
            total, count = found.get(role, (0.0, 0))
            found[role] = total + sum(line[1] for line in lines), count + len(lines)
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


def rows(turns: dict[tuple[str, str], list[dict[str, tuple[float, int]]]]) -> list[dict[str, Any]]:
    """For each kind of server and of request: the mean for a request."""
    made = []
    for (kind, what), each in turns.items():
        row: dict[str, Any] = {"kind": kind, "what": what, "requests": REQUESTS * len(each)}
        for name, (role, processes) in PARTS.items():
            total = sum(turn.get(role, (0.0, 0))[0] for turn in each)
            row[name] = total / row["requests"] / processes
        made.append(row)
    return made


def show(made: list[dict[str, Any]]) -> None:
    base = {row["what"]: row for row in made if row["kind"] == "vLLM"}
    print(f"\n{'for each request':24} {'core, CPU ms':>20} {'a worker, CPU ms':>20} {'message, bytes':>24}")
    for row in made:
        first = base.get(row["what"], row)
        cells = [f"{row[name]:.2f} ({row[name] / max(first[name], 1e-9):.2f} x)" for name in PARTS]
        print(f"{row['kind'] + ', ' + row['what']:24} {cells[0]:>20} {cells[1]:>20} {cells[2]:>24}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venv", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["vLLM", "carry"], help="a server takes 4.5 GB")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    turns: dict[tuple[str, str], list[dict[str, tuple[float, int]]]] = defaultdict(list)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        command = [str(options.venv / "bin" / "python"), str(PEERS / "tiny_model.py"), str(folder / "tiny")]
        subprocess.run(command, check=True, capture_output=True)
        servers = {}
        for at, kind in enumerate(options.kinds):
            (folder / str(at)).mkdir()
            servers[kind] = Server(options.venv, folder / "tiny", KINDS[kind], folder / str(at))
            stack.callback(servers[kind].kill)
            servers[kind].wait()
            servers[kind].ask((picture(at), "First."))
            servers[kind].take()
        kinds, number = list(servers), len(servers)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for turn in range(options.rounds):
                pictures = [picture(number + at) for at in range(REQUESTS)]
                number += REQUESTS
                for kind in kinds[turn % len(kinds) :] + kinds[: turn % len(kinds)]:
                    asked: dict[str, list[tuple[str | None, str]]] = {
                        "new": [(one, f"{turn} new: what is") for one in pictures],
                        "repeat": [(one, f"{turn} repeat: what is") for one in pictures],
                        "text": [(None, f"{turn} {at} text:" + " what is" * LONG) for at in range(REQUESTS)],
                    }
                    for what, each in asked.items():
                        list(threads.map(servers[kind].ask, each))
                        turns[kind, what].append(servers[kind].take())
                    print(f"round {turn + 1}: {kind}", flush=True)
        made = rows(turns)
        show(made)
        if options.json:
            environment = {"cpus": os.cpu_count(), "load": os.getloadavg(), "kernel": platform.release()}
            options.json.write_text(json.dumps({"environment": environment, "rows": made}, indent=1))


if __name__ == "__main__":
    main()
