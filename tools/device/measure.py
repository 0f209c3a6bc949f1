"""Servers of one engine, one after another: whether all give the same answers, and the time to the first token.

    python measure.py sglang|vllm [--cpu] [--pictures 20] [--turns 2] [--json FILE] -- COMMAND...

`COMMAND` starts a server on port `$PORT` and ends when it is terminated; what a variant adds to its options is in
`$OPTIONS`. The first variant is the engine alone. Answers are compared before anything is timed: the exit status is 1
where a variant's differ, or where the plugin carried nothing. It needs Pillow and the standard library.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

START_LIMIT_S = 600.0
ANSWER_LIMIT_S = 120.0
STOP_LIMIT_S = 30.0
PICTURE = (1288, 966)
PICTURE_ON_CPU = (336, 224)
"""SGLang's encoder takes seconds for a large one on a CPU."""
SAME_MAX = 6
"""So many pictures are asked about for the comparison."""


@dataclass(frozen=True)
class Variant:
    """A server: what is set and added to the engine's options."""

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    options: str = ""
    on_cpu: bool = True
    carries: bool = False
    ready: str = "/health"


UNREGISTERED = {"MMPLANE_GPU_REGISTER": "0"}
VARIANTS = {
    "sglang": (
        Variant("cpu transport", {"SGLANG_PLUGINS": "none"}),
        Variant("precomputed hash", {"SGLANG_PLUGINS": "none", "SGLANG_MM_PRECOMPUTE_HASH": "1"}, on_cpu=False),
        Variant("cuda_ipc", {"SGLANG_PLUGINS": "none"}, "--mm-feature-transport cuda_ipc", on_cpu=False),
        Variant("plugin", {"SGLANG_PLUGINS": "mmplane"}, carries=True),
        Variant("plugin, unregistered", {"SGLANG_PLUGINS": "mmplane"} | UNREGISTERED, on_cpu=False, carries=True),
    ),
    "vllm": (
        Variant("off", {"VLLM_PLUGINS": "none"}),
        Variant("on", {"VLLM_PLUGINS": "mmplane"}, carries=True),
        Variant("on, unregistered", {"VLLM_PLUGINS": "mmplane"} | UNREGISTERED, on_cpu=False, carries=True),
    ),
}


def picture(number: int, size: tuple[int, int]) -> str:
    """A data URI of a picture that no other number has."""
    width, height = (side // 14 for side in size)
    dots = Image.frombytes("RGB", (width, height), random.Random(number).randbytes(3 * width * height))
    file = io.BytesIO()
    dots.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def ask(url: str, image: str, tokens_max: int, question: str = "What is this?") -> tuple[str, float]:
    """The answer, and seconds until its first token."""
    content = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": question}]
    body = {"model": "tiny", "temperature": 0, "max_tokens": tokens_max, "stream": True}
    body |= {"messages": [{"role": "user", "content": content}]}
    asked = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    began_s, first_s, said = time.monotonic(), 0.0, []
    with urllib.request.urlopen(asked, timeout=ANSWER_LIMIT_S) as answer:
        for line in answer:
            if line.startswith(b"data: {"):
                choices = json.loads(line[6:]).get("choices") or [{}]
                if words := choices[0].get("delta", {}).get("content"):
                    first_s = first_s or time.monotonic() - began_s
                    said.append(words)
    return "".join(said), first_s or time.monotonic() - began_s


def carried(url: str) -> float:
    """How many features went through the arena, by the server's metrics."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=ANSWER_LIMIT_S) as answer:
        text = answer.read().decode()
    return sum(map(float, re.findall(r"^mmplane_features_carried(?:\{.*\})? (\S+)$", text, re.MULTILINE)))


@contextmanager
def serving(variant: Variant, command: list[str], log: Path) -> Iterator[str]:
    """A server's URL, once it is ready. It is ended with the block. Raises RuntimeError."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | variant.environment | {"PORT": str(port), "OPTIONS": variant.options}
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
    try:
        url, deadline_s = f"http://127.0.0.1:{port}", time.monotonic() + START_LIMIT_S
        while not answers(url + variant.ready):
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"{variant.name} did not start: see {log}")
            time.sleep(0.2)
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_LIMIT_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    """Whether the server answers this route with success."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def percentile(values: list[float], part: float) -> float:
    """In milliseconds."""
    return 1000 * sorted(values)[min(len(values) - 1, int(part * len(values)))]


def measure(options: argparse.Namespace) -> dict[str, dict[str, object]]:
    """What each variant said and took: answers of the first turn, times of all."""
    size = PICTURE_ON_CPU if options.cpu else PICTURE
    variants = [one for one in VARIANTS[options.engine] if one.on_cpu or not options.cpu]
    answers: dict[str, list[str]] = {}
    times: defaultdict[str, list[float]] = defaultdict(list)
    features: defaultdict[str, float] = defaultdict(float)
    numbers = iter(range(10**6, 2 * 10**6))
    for turn in range(options.turns):
        for variant in variants if turn % 2 == 0 else reversed(variants):
            with serving(variant, options.command, options.log) as url:
                said = [ask(url, picture(number, size), 16)[0] for number in range(SAME_MAX)]
                answers.setdefault(variant.name, said)
                times[variant.name] += [ask(url, picture(next(numbers), size), 1)[1] for _ in range(options.pictures)]
                features[variant.name] += carried(url) if variant.carries else 0
    alone = answers[variants[0].name]
    return {
        one.name: {
            "same_answers": sum(map(str.__eq__, answers[one.name], alone)),
            "answers": SAME_MAX,
            "carried": features[one.name],
            "ok": answers[one.name] == alone and (not one.carries or features[one.name] > 0),
            "ttft_ms_p50": 1000 * statistics.median(times[one.name]),
            "ttft_ms_p99": percentile(times[one.name], 0.99),
        }
        for one in variants
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=[*VARIANTS])
    parser.add_argument("--cpu", action="store_true", help="small pictures, and only what works without a GPU")
    parser.add_argument("--pictures", type=int, default=20, help="timed in each turn (default %(default)s)")
    parser.add_argument("--turns", type=int, default=2, help="default %(default)s")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--log", type=Path, default=Path("server.log"), help="what the servers say")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    found = measure(options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    print(f"{'':24}{'same answers':>14}{'carried':>9}{'TTFT p50 ms':>13}{'p99':>9}")
    for name, row in found.items():
        same = f"{row['same_answers']}/{row['answers']}"
        print(f"{name:24}{same:>14}{row['carried']:>9.0f}{row['ttft_ms_p50']:>13.1f}{row['ttft_ms_p99']:>9.1f}")
    return 0 if all(row["ok"] for row in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
