"""What does an item cost the serving machine when a media machine makes it, and what crosses the network?

    PYTHONPATH=tests/process:tests/shared python benchmarks/machines.py [--items 30] [--turns 3]

A server and a media machine in network namespaces (needs root), in turns: with the cable out, the server's own worker
makes each item; with it in, the media machine does. Every item is new. Counted is the CPU of what makes features on the
serving machine (worker and porter), and of all its processes but the ranks, which compute nothing (`--runner null`).
Wanted: at most 0.25 of local for a JPEG of 1288x966, 0.06 for a clip; over the network the file, and the features once.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from live import Live, serving, until
from machines import JOINING, Network, Outpost, machines, write_key
from pictures import part, photograph, text
from PIL import Image

from clips import clip_part, encode, moving
from mmplane.models.tiny import SHIPPED_WEIGHTS, build_tiny

LIMIT_S = 120.0
WANTED = {"picture": 0.25, "clip": 0.06}
MAKERS = ("worker", "porter")


def picture(number: int) -> dict[str, Any]:
    """A photograph of 1288x966 that nobody has sent: some pixels differ."""
    with Image.open(io.BytesIO(photograph("china"))) as image:
        pixels = np.array(image.convert("RGB").resize((1288, 966)))
    pixels[:8, :8] = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return part(file.getvalue())


def clip(number: int) -> dict[str, Any]:
    """Some 2 s of 720p; the first frame differs."""
    frames = moving(48, 1280, 720)
    frames[0][:] = number % 251
    return clip_part(encode(frames))


KINDS: dict[str, Callable[[int], dict[str, Any]]] = {"picture": picture, "clip": clip}


def cpu_s(live: Live) -> dict[str, float]:
    """CPU seconds by role so far."""
    found: dict[str, float] = {}
    for title, process in live.processes().items():
        times = process.cpu_times()
        role = title.split()[0]
        found[role] = found.get(role, 0.0) + times.user + times.system
    return found


def main() -> int:
    """The exit status: 1 when something costs more than is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=30, help="pictures in each turn; a fifth as many clips")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        key = write_key(folder)
        network = Network(1)
        stack.callback(network.close)
        stack.enter_context(network.inside(0))
        build_tiny(folder / "tiny", weights=SHIPPED_WEIGHTS)
        flags = (*JOINING, "--cluster-key-file", str(key), "--workers", "1", "--runner", "null", "--cache", "off")
        arena = ("--arena-bytes", str(512 * 2**20), "--prefill-tokens", "8192")
        live = stack.enter_context(serving(folder / "tiny", *flags, *arena, tp=1, executed=True))
        outpost = Outpost(network, 1, key, "--arena-bytes", str(512 * 2**20))
        stack.callback(outpost.stop)
        until(lambda: machines(live) == 1, LIMIT_S, "it has joined")
        return measured(live, network, options.items, options.turns)


def measured(live: Live, network: Network, items: int, turns: int) -> int:
    number = 0
    failed = 0
    for kind, make in KINDS.items():
        count = items if kind == "picture" else max(1, items // 5)
        costs: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        crossed: list[tuple[float, float, float]] = []
        for _ in range(turns):
            for away in (True, False):
                network.link(1, up=away)
                until(lambda away=away: machines(live) == int(away), LIMIT_S, "the machine has come or gone")
                contents = [make(number + each) for each in range(count)]
                number += count
                before, received, sent = cpu_s(live), network.received_bytes(0), network.received_bytes(1)
                features = sum(ask(live, content) for content in contents)
                after = cpu_s(live)
                spent = {role: after[role] - before.get(role, 0.0) for role in after}
                makers = sum(spent.get(role, 0.0) for role in MAKERS)
                rest = sum(seconds for role, seconds in spent.items() if role != "rank")
                costs[away].append((makers / count, rest / count))
                if away:
                    got, gave = network.received_bytes(0) - received, network.received_bytes(1) - sent
                    crossed.append((features / count, got / count, gave / count))
        local, remote = (tuple(median(each[i] for each in costs[away]) for i in (0, 1)) for away in (False, True))
        features_bytes, in_bytes, out_bytes = (median(each[i] for each in crossed) for i in (0, 1, 2))
        ratio = remote[0] / local[0]
        failed += ratio > WANTED[kind]
        print(
            f"{kind}: made here {local[0] * 1e3:.1f} ms of CPU, received {remote[0] * 1e3:.1f} ms: {ratio:.3f} "
            f"(wanted {WANTED[kind]}); with the front end {remote[1] / local[1]:.2f}; "
            f"features {features_bytes / 1e6:.2f} MB, in {in_bytes / 1e6:.2f} MB, out {out_bytes / 1e6:.2f} MB",
            flush=True,
        )
    return int(failed > 0)


def ask(live: Live, content: dict[str, Any]) -> int:
    """Bytes of features in the arena."""
    answer = live.chat([content, text("?")], max_tokens=1, mmplane={"trace": True})
    assert answer.status_code == 200, answer.text
    found: int = answer.json()["mmplane"]["trace"]["items"][0]["bytes"]
    return found


if __name__ == "__main__":
    sys.exit(main())
