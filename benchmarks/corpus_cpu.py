"""What each hostile file costs: CPU seconds and memory of the whole server, file by file.

    python benchmarks/corpus_cpu.py [--repeats 1] [--shown 12] [--runner null] [--json FILE]

Each file of `tests/corpus/make.py` goes through a real server: pictures and clips through the built-in model, sounds
through a Qwen2-Audio checkpoint of random weights; one rank each, which computes nothing unless `--runner hf` says so:
what a model costs is what the tokens of any picture cost. CPU is the kernel's count over all processes of the
server, those that ended included, from before the request until nothing is in flight; of several repeats the most.
Memory is the sum of what all processes have for themselves beyond what they had when idle, sampled every 20 ms, and the
peak of a control group where one can be made. Wanted: the status that the corpus says, less than 1 s of CPU for
pictures and sounds and 2 s for clips, memory within the budget.

Bias: a server does some 0.02 s of work in each second whatever comes, and that is in the figures. A busy machine makes
them larger (caches, clock), not much.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from mmplane.bench.run.environment import environment
from mmplane.bench.run.server import Server, serving

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "tests" / "corpus"))
sys.path.append(str(Path(__file__).parents[1] / "tests" / "process"))

from accounts import Group, Peak, tree_cpu_s, watched
from make import CASES, Case
from qwen_audio import build_qwen_audio

BUDGET_BYTES = 1 << 30
LIMITS_S = {"image": 1.0, "video": 2.0, "audio": 1.0}


def body(case: Case) -> bytes:
    """The request."""
    content = base64.b64encode(case.make()).decode()
    if case.kind == "audio":
        part: dict[str, Any] = {"type": "input_audio", "input_audio": {"data": content, "format": "wav"}}
    else:
        part = {"type": f"{case.kind}_url", f"{case.kind}_url": {"url": f"data:;base64,{content}"}}
    message = {"role": "user", "content": [part, {"type": "text", "text": "?"}]}
    return json.dumps({"model": "tiny", "max_tokens": 1, "messages": [message]}).encode()


def settled(server: Server) -> None:
    """Nothing is in flight any more."""
    while server.statistics()["requests"]["in_flight"] or server.statistics()["budget"]["reserved_bytes"]:
        time.sleep(0.005)


def measure(server: Server, http: httpx.Client, case: Case, peak: Peak) -> dict[str, Any]:
    """One file, once."""
    content = body(case)
    before_s, started_s = tree_cpu_s(server.supervisor), time.perf_counter()
    peak.take()
    answer = http.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    wall_s = time.perf_counter() - started_s
    settled(server)
    return {
        "kind": case.kind,
        "status": answer.status_code,
        "wanted": case.status,
        "bytes": len(content) * 3 // 4,
        "cpu_s": tree_cpu_s(server.supervisor) - before_s,
        "wall_s": wall_s,
        "peak_bytes": peak.take(),
    }


def through(
    model: str, kinds: tuple[str, ...], repeats: int, runner: str
) -> tuple[dict[str, dict[str, Any]], int | None]:
    """All files of these kinds through one server, by name; and the control group's peak in bytes."""
    found: dict[str, dict[str, Any]] = {}
    flags = [
        "--budget-bytes",
        str(BUDGET_BYTES),
        "--workers",
        "2",
        "--stall-seconds",
        "60",
        "--kv-bytes",
        str(256 * 2**20),
        "--cache",
        "off",
    ]
    flags += ["--runner", runner]
    with Group() as group, serving(model, tp=1, flags=flags) as server, httpx.Client(base_url=server.url) as http:
        http.timeout = httpx.Timeout(120)
        group.take_in(server.supervisor)
        with watched(server.supervisor) as peak:
            for name, case in CASES.items():
                if case.kind in kinds:
                    runs = [measure(server, http, case, peak) for _ in range(repeats)]
                    found[name] = max(runs, key=lambda run: float(run["cpu_s"]))
        return found, group.peak_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--runner", default="null")
    parser.add_argument("--shown", type=int, default=12)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        build_qwen_audio(Path(folder))
        seen, seen_bytes = through("tiny", ("image", "video"), options.repeats, options.runner)
        heard, heard_bytes = through(folder, ("audio",), options.repeats, options.runner)
    found = seen | heard
    ordered = sorted(found, key=lambda name: -found[name]["cpu_s"])
    print(f"{'the dearest files':72}{'status':>7}{'CPU s':>7}{'wall s':>8}{'peak MB':>9}")
    for name in ordered[: options.shown]:
        row = found[name]
        print(f"{name[:71]:72}{row['status']:7}{row['cpu_s']:7.2f}{row['wall_s']:8.2f}{row['peak_bytes'] / 1e6:9.0f}")
    wrong = [name for name in ordered if found[name]["status"] != found[name]["wanted"]]
    dear = [name for name in ordered if found[name]["cpu_s"] >= LIMITS_S[found[name]["kind"]]]
    peak_bytes = max(row["peak_bytes"] for row in found.values())
    groups = [
        f"{each / 1e6:.0f} MB" if each is not None else "none could be made" for each in (seen_bytes, heard_bytes)
    ]
    print(f"{len(found)} files, {sum(row['cpu_s'] for row in found.values()):.1f} s of CPU in all")
    print(f"another status than wanted: {wrong or 'none'}; more CPU than wanted: {dear or 'none'}")
    print(f"peak {peak_bytes / 1e6:.0f} MB beyond idle, sampled; control group: {', '.join(groups)}; ", end="")
    print(f"budget {BUDGET_BYTES / 1e6:.0f} MB; cores {len(os.sched_getaffinity(0))}, load {os.getloadavg()[0]:.1f}")
    if options.json:
        report = {"environment": environment(["corpus_cpu"]), "files": found, "groups": [seen_bytes, heard_bytes]}
        options.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
