"""CPU of the front end and the workers per request, through the real server: new pictures, and repeats of a known one.

    python benchmarks/end_to_end.py [--runner null --requests 60] [--rounds 5] [--busy] [--json FILE]

A 1288x966 photograph is sent as new JPEGs (each with pixels of its own) and again and again as one known file, with a
body of about 0.35 MB and, for the repeats, of about 3 MB too. The rounds are interleaved; the figures are medians of
rounds. CPU is what the operating system charged the processes, not what a clock said. The ranks compute one token: what
they cost is shown apart, since it is the model's.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image
from sklearn.datasets import load_sample_image

ROLES = ("frontend", "worker", "rank")
WIDTH, HEIGHT = 1288, 966


@contextmanager
def server(*flags: str) -> Iterator[tuple[str, dict[str, list[psutil.Process]]]]:
    """A server with two ranks: its URL, and its processes by role."""
    command = [sys.executable, "-m", "mmplane", "serve", "--port", "0", "--log-level", "warning", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        url = next(found.group(1) for line in process.stdout if (found := re.search(r"at (http://\S+),", line)))
        roles: dict[str, list[psutil.Process]] = {role: [] for role in ROLES}
        for child in psutil.Process(process.pid).children(recursive=True):
            title = child.cmdline()[0].removeprefix("mmplane: ").split()[0]
            if title in roles:
                roles[title].append(child)
        yield url, roles
    finally:
        process.terminate()
        process.wait(30)


def photograph() -> np.ndarray:
    """A real photograph, enlarged to 1288x966."""
    whole = Image.fromarray(load_sample_image("china.jpg"))
    return np.asarray(whole.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


@contextmanager
def occupied(wanted: bool) -> Iterator[None]:
    """Every core busy with something that gives way to everything else."""
    command = ["nice", "-n", "19", sys.executable, "-c", "while True: pass"]
    loops = [subprocess.Popen(command) for _ in range((os.cpu_count() or 1) if wanted else 0)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def jpeg(pixels: np.ndarray, mark: int, quality: int) -> bytes:
    """The picture with pixels of its own in one corner, as JPEG."""
    own = pixels.copy()
    own[:16, :16] = np.random.default_rng(mark).integers(0, 256, (16, 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(own).save(file, "JPEG", quality=quality, subsampling=0 if quality > 95 else 2)
    return file.getvalue()


def body(media: bytes) -> bytes:
    """A chat request for one token about this picture."""
    url = "data:image/jpeg;base64," + base64.b64encode(media).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "?"}]
    message = {"role": "user", "content": content}
    return json.dumps({"model": "tiny", "max_tokens": 1, "temperature": 0, "messages": [message]}).encode()


def cpu_s(processes: list[psutil.Process]) -> float:
    """Seconds of CPU of all threads so far: the scheduler's own count, in nanoseconds, not clock ticks."""
    threads = [path for process in processes for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat")]
    return sum(int(path.read_text().split()[0]) for path in threads) / 1e9


def measure(client: httpx.Client, roles: dict[str, list[psutil.Process]], bodies: list[bytes]) -> dict[str, float]:
    """Milliseconds of CPU per request, by role."""
    before = {role: cpu_s(processes) for role, processes in roles.items()}
    for content in bodies:
        client.post("/v1/chat/completions", content=content).raise_for_status()
    return {role: (cpu_s(roles[role]) - before[role]) / len(bodies) * 1000 for role in ROLES}


def run(options: argparse.Namespace, flags: list[str]) -> dict[str, dict[str, float]]:
    """Medians over the rounds, by case and role."""
    pixels = photograph()
    quality = next(q for q in range(96, 60, -1) if len(body(jpeg(pixels, 0, q))) <= 350_000)
    known = body(jpeg(pixels, 0, quality))
    noisy = pixels.astype(np.int16) + np.random.default_rng(0).integers(-60, 60, pixels.shape)
    noisy_pixels = noisy.clip(0, 255).astype(np.uint8)
    large = next(b for q in range(100, 50, -1) if len(b := body(jpeg(noisy_pixels, 0, q))) <= 3_300_000)
    marks = count(1)
    rounds: dict[str, list[dict[str, float]]] = {}
    with (
        occupied(options.busy),
        server(*flags) as (url, roles),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        for content in (known, large):
            client.post("/v1/chat/completions", content=content).raise_for_status()
        for _ in range(options.rounds):
            new = [body(jpeg(pixels, next(marks), quality)) for _ in range(options.requests)]
            cases = {
                "new": new,
                f"known, {len(known) / 1e6:.2f} MB": [known] * options.requests,
                f"known, {len(large) / 1e6:.2f} MB": [large] * options.requests,
            }
            for name, bodies in cases.items():
                rounds.setdefault(name, []).append(measure(client, roles, bodies))
    return {
        name: {role: statistics.median(figures[role] for figures in found) for role in ROLES}
        for name, found in rounds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", action="store_true", help="keep every core occupied at the lowest priority")
    parser.add_argument("--json", type=Path)
    options, flags = parser.parse_known_args()
    figures = run(options, flags)
    print(f"CPU milliseconds per request, medians of {options.rounds} rounds of {options.requests}")
    print(f"{'case':<20} {'front end':>10} {'worker':>10} {'together':>10} {'a rank':>10}")
    for name, by_role in figures.items():
        front, worker, ranks = (by_role[role] for role in ROLES)
        print(f"{name:<20} {front:>10.2f} {worker:>10.2f} {front + worker:>10.2f} {ranks / 2:>10.2f}")
    if options.json:
        environment = {"python": platform.python_version(), "cpus": os.cpu_count(), "machine": platform.machine()}
        options.json.write_text(json.dumps({"environment": environment, "cpu_ms_per_request": figures}, indent=1))


if __name__ == "__main__":
    main()
