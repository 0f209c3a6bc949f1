"""Ten thousand numbers read by the built-in model, many at once: a crossed picture is a wrong answer.

    python benchmarks/readings.py [--requests 10000] [--at-once 16] [--tp 2] [--delivery arena] [--json FILE]

Every request shows a number of its own (from 9,000 one to three times, in other looks and files) or, one in ten, three.
The model is not perfect: an answer that is not the number is asked for again alone, as a new file. If it is the same
then, the model reads the picture so; if not, the first answer was about something else, and that is what must not be.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from mmplane.bench.inputs.stamps import stamped
from mmplane.bench.run.environment import environment
from mmplane.bench.run.server import serving
from mmplane.demo import LOOKS, QUESTION, draw
from mmplane.models.tiny import ensure_tiny

THREE = "Which numbers are these?"
TOKENS_MAX = 24
LIMIT_S = 300.0
SAID_EVERY = 1000


@dataclass(frozen=True)
class Reading:
    """What is shown, and the picture or the three."""

    numbers: tuple[str, ...]
    pictures: tuple[bytes, ...]

    @property
    def right(self) -> str:
        """The answer that shows the right pictures in the right order."""
        return ", ".join(self.numbers)


def readings(count: int, seed: int) -> Iterator[Reading]:
    """So many, each with a file of its own for every picture."""
    drawn = random.Random(seed)
    numbers: list[str] = []
    for at in range(count):
        shown = 3 if at % 10 == 9 else 1
        while len(numbers) < shown:
            numbers += map(str, drawn.sample(range(1000, 10000), 9000))
        mine = tuple(numbers.pop() for _ in range(shown))
        looks = (LOOKS[(at + place) % len(LOOKS)] for place in range(shown))
        files = (draw(number, *look) for number, look in zip(mine, looks, strict=True))
        yield Reading(mine, tuple(stamped(file, f"{seed}/{at}".encode()) for file in files))


def ask(http: httpx.Client, reading: Reading, note: bytes = b"") -> tuple[int, str]:
    """Status, and what the model says."""
    content: list[dict[str, Any]] = []
    for picture in reading.pictures:
        url = "data:image/png;base64," + base64.b64encode(stamped(picture, note) if note else picture).decode()
        content.append({"type": "image_url", "image_url": {"url": url}})
    content.append({"type": "text", "text": QUESTION if len(reading.numbers) == 1 else THREE})
    body = {"model": "tiny", "max_tokens": TOKENS_MAX, "temperature": 0}
    answer = http.post("/v1/chat/completions", json=body | {"messages": [{"role": "user", "content": content}]})
    return answer.status_code, answer.json()["choices"][0]["message"]["content"] if answer.is_success else answer.text


def measure(http: httpx.Client, count: int, at_once: int, seed: int) -> dict[str, Any]:
    """Ask them all, and again alone what was not read right."""
    statuses: Counter[int] = Counter()
    misread: list[tuple[Reading, str]] = []
    began_s = time.monotonic()

    def one(reading: Reading) -> tuple[Reading, int, str]:
        return reading, *ask(http, reading)

    with ThreadPoolExecutor(at_once) as threads:
        for done, (reading, status, said) in enumerate(_in_turn(threads, one, readings(count, seed), at_once), 1):
            statuses[status] += 1
            if status == 200 and said != reading.right:
                misread.append((reading, said))
            if done % SAID_EVERY == 0:
                print(f"{done} read, {len(misread)} not right so far", file=sys.stderr)
    took_s = time.monotonic() - began_s
    wrong = [(*reading.numbers, said) for reading, said in misread if ask(http, reading, b"again")[1] != said]
    return {
        "requests": count,
        "seconds": took_s,
        "statuses": dict(statuses),
        "right": statuses[200] - len(misread),
        "misread_alone_too": len(misread) - len(wrong),
        "wrong": wrong,
    }


def _in_turn(threads: ThreadPoolExecutor, work: Any, items: Iterator[Reading], at_once: int) -> Iterator[Any]:
    """`threads.map`, but no more than a few are made before they are needed."""
    waiting = []
    for item in items:
        waiting.append(threads.submit(work, item))
        if len(waiting) >= 2 * at_once:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def main() -> int:
    """0 if every request was answered, and each answer is what the model says of that picture alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--tp", type=int, default=2)
    parser.add_argument("--delivery", default="arena")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        model = str(ensure_tiny(Path(cache)))
        with (
            serving(model, tp=options.tp, flags=["--delivery", options.delivery]) as server,
            httpx.Client(base_url=server.url, timeout=LIMIT_S) as http,
        ):
            found = measure(http, options.requests, options.at_once, options.seed)
    if options.json:
        options.json.write_text(json.dumps(found | {"environment": environment(sys.argv[1:])}, indent=1))
    print(
        f"{found['requests']} requests in {found['seconds']:.0f} s: statuses {found['statuses']}, "
        f"{found['right']} right, {found['misread_alone_too']} misread alone too, "
        f"{len(found['wrong'])} wrong or crossed {found['wrong'][:5]}"
    )
    return 0 if found["statuses"] == {200: found["requests"]} and not found["wrong"] else 1


if __name__ == "__main__":
    sys.exit(main())
