"""What each design of the analyses costs inside SGLang: docs/results-sglang.md, from the same work on real servers.

    make results-sglang            TP=2 and TP=4, an hour, the servers of TP=2 side by side (15 GB)
    make results-sglang QUICK=1    TP=2 alone, one round, one server at a time: build/results-sglang.md in 10 minutes

Servers: SGLang alone; SGLang with `--enable-broadcast-mm-inputs-process`, which is the incident's commit; the plugin,
switched from one design to the next while it runs; the plugin with the sidecar's processor. A turn is one design at one
number of requests at once. Turns go round, in an order that rotates, and every request has a photograph that nobody has
sent before, of 224x224 to 616x420 pixels, and asks for four tokens.

Counted for each request: wall time on each rank's loop (receiving, building, the agreement: everything but the model),
wall time on the tokenizer's event loop to send it, and CPU of each process, on ranks without what the model took.

Clips are left out: SGLang's decoders for them are not in the test environment.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image
from sglang_page import page_of
from sklearn.datasets import load_sample_image

from mmplane.models.tiny import build_tiny

ROOT = Path(__file__).parents[1]
START_LIMIT_S = 600.0
SIZES = ((224, 224), (308, 252), (420, 336), (616, 420))
TOKENS = 4
ONE_PICTURE = ("--chunked-prefill-size", "512", "--max-prefill-tokens", "512")
"""Of 330 tokens at most in each prefill: SGLang's attention over several in one batch takes gigabytes on a CPU."""
DESIGNS = ("default", "leader", "leader-batch", "leader-async", "delayed", "delayed-async", "eager", "arena")
SERVERS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "SGLang": ({"SGLANG_PLUGINS": "loops"}, ()),
    "SGLang, the incident's flag": ({"SGLANG_PLUGINS": "loops"}, ("--enable-broadcast-mm-inputs-process",)),
    "plugin": (
        {"SGLANG_PLUGINS": "loops,mmplane", "MMPLANE_SGLANG_DESIGN": "default", "MMPLANE_SGLANG_PROCESSOR": "off"},
        (),
    ),
    "plugin and processor": ({"SGLANG_PLUGINS": "loops,mmplane", "MMPLANE_SGLANG_PROCESSOR": "on"}, ()),
}
SWITCHED = "plugin"
FULL = {1: 12, 10: 40, 30: 60}
QUICK = {1: 4, 10: 10, 30: 30}
"""Requests of a turn, by how many are sent at once."""
LOOP = ("__setstate__", "_finalize_shm_features", "process_input_requests")
SEND = ("wrap_shm_features", "_dispatch_to_scheduler")


@dataclass
class Turn:
    """What one turn took."""

    requests: int
    wall_s: float
    latencies_s: list[float]
    loop_s: dict[str, float]
    cpu_s: dict[str, float]


@dataclass
class Server:
    """One server and the files of its probes."""

    name: str
    tp: int
    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    http: httpx.Client = field(init=False)
    roles: dict[str, list[psutil.Process]] = field(init=False)

    def __post_init__(self) -> None:
        # No connection is kept: between two turns the server would close it.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=600, limits=limits)

    def wait(self) -> None:
        """Until it serves."""
        deadline_s = time.monotonic() + START_LIMIT_S
        while "The server is fired up" not in (self.folder / "log").read_text(errors="replace"):
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                raise SystemExit(f"{self.name} did not start:\n{(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.2)
        self.roles = roles_of(psutil.Process(self.process.pid))

    def switch(self, design: str, warming: str) -> None:
        """The design of the requests to come. One that is not counted, so that all ranks are past the switch."""
        if self.name == SWITCHED:
            self.http.put("/mmplane/design", json={"name": design}).raise_for_status()
        self.http.post("/flush_cache").raise_for_status()
        self.ask(warming)

    def ask(self, picture: str) -> float:
        """One request; the seconds that it took."""
        content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": "What is this?"}]
        body = {"model": "tiny", "temperature": 0, "max_tokens": TOKENS, "ignore_eos": True}
        began_s = time.perf_counter()
        asked = body | {"messages": [{"role": "user", "content": content}]}
        self.http.post("/v1/chat/completions", json=asked).raise_for_status()
        return time.perf_counter() - began_s

    def turn(self, pictures: Sequence[str], at_once: int) -> Turn:
        """Send them, so many at once, and count."""
        for file in self.folder.glob("*.jsonl"):
            os.truncate(file, 0)
        before = self._cpu_s()
        began_s = time.perf_counter()
        with ThreadPoolExecutor(at_once) as threads:
            latencies_s = list(threads.map(self.ask, pictures))
        wall_s = time.perf_counter() - began_s
        after = self._cpu_s()
        calls = {file.stem: _sums(file) for file in self.folder.glob("*.jsonl")}
        cpu_s = {role: after[role] - before[role] - _cpu(calls, role, ("run_batch",)) for role in after}
        loop_s = {role: sum(sums.get(name, (0.0, 0.0))[0] for name in (*LOOP, *SEND)) for role, sums in calls.items()}
        return Turn(len(pictures), wall_s, latencies_s, loop_s, cpu_s)

    def kill(self) -> None:
        """End it, whatever it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.http.close()

    def _cpu_s(self) -> dict[str, float]:
        times = {role: [process.cpu_times() for process in processes] for role, processes in self.roles.items()}
        return {role: sum(each.user + each.system for each in all_of) for role, all_of in times.items()}


def _sums(file: Path) -> dict[str, tuple[float, float]]:
    """Wall and CPU seconds of each call that a probe has written down."""
    sums: dict[str, tuple[float, float]] = {}
    for line in file.read_text().splitlines():
        name, wall_s, cpu_s = json.loads(line)
        total = sums.get(name, (0.0, 0.0))
        sums[name] = (total[0] + wall_s, total[1] + cpu_s)
    return sums


def _cpu(calls: dict[str, dict[str, tuple[float, float]]], role: str, names: tuple[str, ...]) -> float:
    return sum(calls.get(role, {}).get(name, (0.0, 0.0))[1] for name in names)


def roles_of(tokenizer: psutil.Process) -> dict[str, list[psutil.Process]]:
    """The server's processes by what they do."""
    roles: dict[str, list[psutil.Process]] = {"tokenizer": [tokenizer]}
    for process in tokenizer.children(recursive=True):
        title = " ".join(process.cmdline())
        if "sglang::scheduler" in title:
            role = f"rank{title.partition('TP')[2][:1] or 0}"
        elif "sglang::detokenizer" in title:
            role = "detokenizer"
        else:
            role = "sidecar" if "mmplane" in title else "others"
        roles.setdefault(role, []).append(process)
    return roles


@contextmanager
def started(name: str, tp: int, venv: Path, model: Path) -> Iterator[Server]:
    """A server that serves, ended with the block."""
    environment, options = SERVERS[name]
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        path = (str(Path(__file__).parent / "sglang_loops"), os.environ.get("PYTHONPATH"))
        probe = {"PYTHONPATH": os.pathsep.join(filter(None, path)), "MMPLANE_LOOPS_FOLDER": folder}
        if tp == 4:
            probe["SGLANG_CPU_OMP_THREADS_BIND"] = "0|1|0|1"
        script = ROOT / "tools" / "peers" / "sglang" / "serve.sh"
        command = ["bash", str(script), str(venv), str(model), str(tp), str(port), "--sleep-on-idle", *ONE_PICTURE]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, *options], env=os.environ | environment | probe, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        server = Server(name, tp, Path(folder), port, process)
        try:
            server.wait()
            yield server
        finally:
            server.kill()


def picture(number: int) -> str:
    """A photograph as a data URI. No two numbers have the same; four in a row have the four sizes."""
    width, height = SIZES[number % len(SIZES)]
    photograph = Image.fromarray(load_sample_image(("china.jpg", "flower.jpg")[number // len(SIZES) % 2]))
    cut = photograph.crop((0, 0, width, height))
    cut.paste(((number * 37) % 256, number % 256, number // 256), (0, 0, 56, 56))
    file = io.BytesIO()
    cut.save(file, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def measured(venv: Path, model: Path, tp: int, *, rounds: int, turns: dict[int, int], together: bool) -> Any:
    """(kind, at once) and its turns, for each kind of server and design."""
    found: dict[tuple[str, int], list[Turn]] = {}
    number = 0
    for group in [list(SERVERS)] if together else [[name] for name in SERVERS]:
        with ExitStack() as stack:
            servers = [stack.enter_context(started(name, tp, venv, model)) for name in group]
            kinds = [(server, design) for server in servers for design in designs_of(server.name)]
            for at in range(rounds):
                for at_once, count in turns.items():
                    for server, design in kinds[at % len(kinds) :] + kinds[: at % len(kinds)]:
                        warming, *pictures = [picture(number + each) for each in range(count + 1)]
                        number += count + 1
                        server.switch(design, warming)
                        kind = f"design `{design}`" if server.name == SWITCHED else server.name
                        found.setdefault((kind, at_once), []).append(server.turn(pictures, at_once))
                        print(f"TP={tp}, round {at + 1}, {at_once} at once: {kind}", flush=True)
    return found


def designs_of(server: str) -> tuple[str, ...]:
    """What is to be measured on a server."""
    return DESIGNS if server == SWITCHED else ("",)


def row(kind: str, at_once: int, tp: int, turns: list[Turn]) -> dict[str, Any]:
    """Means over all requests; the 99th percentile of fewer than 100 is their maximum."""
    requests = sum(turn.requests for turn in turns)
    latencies_s = sorted(latency for turn in turns for latency in turn.latencies_s)
    per = 1000 / requests
    return {
        "kind": kind,
        "tp": tp,
        "at_once": at_once,
        "requests": requests,
        "per_s": requests / sum(turn.wall_s for turn in turns),
        "p50_ms": latencies_s[len(latencies_s) // 2] * 1000,
        "p99_ms": latencies_s[min(len(latencies_s) - 1, int(len(latencies_s) * 0.99))] * 1000,
        "loop_ms": {role: sum(turn.loop_s.get(role, 0.0) for turn in turns) * per for role in turns[0].loop_s},
        "cpu_ms": {role: sum(turn.cpu_s[role] for turn in turns) * per for role in turns[0].cpu_s},
    }


def environment() -> dict[str, Any]:
    """Where and of what this was measured."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    return {
        "at": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()),
        "commit": commit.strip(),
        "cores": os.cpu_count(),
        "cpu": cpu.partition(":")[2].strip(),
        "memory_gib": psutil.virtual_memory().total >> 30,
        "kernel": os.uname().release,
        "load_before": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venv", type=Path)
    parser.add_argument("--quick", action="store_true", help="TP=2 alone, one round, one server at a time")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--note", default="", help="what a reader must know of this run, such as: loaded")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs", help="where the page and its JSON go")
    options = parser.parse_args()
    for name in SERVERS.keys() - set(options.servers):
        del SERVERS[name]
    run = environment() | {"note": options.note, "quick": options.quick}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny"
        build_tiny(model)
        for tp in (2,) if options.quick else (2, 4):
            rounds, turns = (1, QUICK) if options.quick else (3, FULL)
            together = tp == 2 and not options.quick
            found = measured(options.venv, model, tp, rounds=rounds, turns=turns, together=together)
            rows += [row(kind, at_once, tp, turns) for (kind, at_once), turns in found.items()]
    options.folder.mkdir(exist_ok=True)
    (options.folder / "results-sglang.json").write_text(json.dumps({"run": run, "rows": rows}, indent=1) + "\n")
    (options.folder / "results-sglang.md").write_text(page_of(run, rows))


if __name__ == "__main__":
    main()
