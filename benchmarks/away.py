"""What does an item cost the serving machine when a media machine makes it, and what crosses the network?

    PYTHONPATH=tests/process:tests/shared python benchmarks/away.py [--items 30] [--turns 3] [--tls]

A server with one worker and two media machines in network namespaces (needs root), in turns: with the cables out, the
server's own worker makes each item; with them in, the media machines do. Every picture and clip is new; the 128
pictures of one request are the same in both, and their digests must be too, in order. Counted is the CPU of what makes
features on the serving machine (worker and porters), and of all its processes but the ranks, which compute nothing
(`--runner null`). Wanted: at most 0.25 of local for a JPEG of 1288x966 and for the 128 pictures of 512x512, 0.06 for a
clip of 720p; over the network the file, and the features once.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from live import Live, serving, until
from machines import JOINING, Network, Outpost, machines, tls_flags, write_key
from pictures import part, photograph, text
from PIL import Image

from clips import clip_part
from mmplane.bench.inputs.sources import Source, encoded
from mmplane.models.tiny import SHIPPED_WEIGHTS, build_tiny

LIMIT_S = 120.0
WANTED = {"picture": 0.25, "clip": 0.06, "128 pictures": 0.25}
MAKERS = ("worker", "porter")
MANY = 128
MACHINES = 2
CONTEXT_TOKENS = 65536

Content = list[dict[str, Any]]


def picture(number: int, width: int = 1288, height: int = 966) -> dict[str, Any]:
    """A photograph that nobody has sent: some pixels differ."""
    with Image.open(io.BytesIO(photograph("china"))) as image:
        pixels = np.array(image.convert("RGB").resize((width, height)))
    pixels[:8, :8] = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return part(file.getvalue())


def clip(number: int) -> dict[str, Any]:
    """Five seconds of 720p, of which 8 frames are looked at."""
    return clip_part(encoded(Source("video", number)))


def many(number: int) -> Content:
    """A request of 128 pictures."""
    return [picture(1_000_000 * number + each, 512, 512) for each in range(MANY)]


KINDS: dict[str, Callable[[int], Content]] = {
    "picture": lambda number: [picture(number)],
    "clip": lambda number: [clip(number)],
    "128 pictures": many,
}


@dataclass
class Cost:
    """Of an item: CPU seconds here of what makes features, and of all; bytes of features, and moved."""

    makers_s: float
    all_s: float
    features_bytes: float
    in_bytes: float
    out_bytes: float


def median_of(costs: list[Cost]) -> Cost:
    """Of each figure."""
    return Cost(*(median(getattr(each, field.name) for each in costs) for field in fields(Cost)))


class Bench:
    """A server, and the cables of its media machines."""

    def __init__(self, live: Live, network: Network) -> None:
        self._live = live
        self._network = network

    def plug(self, *, away: bool) -> None:
        """Have the media machines make what comes, or nobody but the server."""
        for number in range(1, MACHINES + 1):
            self._network.link(number, up=away)
        until(lambda: len(machines(self._live)) == away * MACHINES, LIMIT_S, "the machines have come or gone")

    def ask(self, contents: list[Content]) -> tuple[Cost, list[Any]]:
        """What these requests cost, and the digests of their items."""
        before, received, sent = self._cpu_s(), *self._moved_bytes()
        items = [item for content in contents for item in self._items(content)]
        after, received_then, sent_then = self._cpu_s(), *self._moved_bytes()
        spent = {role: after[role] - before.get(role, 0.0) for role in after if role != "rank"}
        features_bytes = sum(item["bytes"] for item in items)
        whole = (
            sum(spent.get(role, 0.0) for role in MAKERS),
            sum(spent.values()),
            features_bytes,
            received_then - received,
            sent_then - sent,
        )
        return Cost(*(figure / len(items) for figure in whole)), [item["digests"] for item in items]

    def _items(self, content: Content) -> list[Any]:
        answer = self._live.chat([*content, text("?")], max_tokens=1, mmplane={"trace": True})
        assert answer.status_code == 200, answer.text
        found: list[Any] = answer.json()["mmplane"]["trace"]["items"]
        return found

    def _cpu_s(self) -> dict[str, float]:
        """CPU seconds by role so far."""
        found: dict[str, float] = {}
        for title, process in self._live.processes().items():
            times = process.cpu_times()
            role = title.split()[0]
            found[role] = found.get(role, 0.0) + times.user + times.system
        return found

    def _moved_bytes(self) -> tuple[int, int]:
        """What has come to the server, and to all machines together."""
        received = [self._network.received_bytes(number) for number in range(MACHINES + 1)]
        return received[0], sum(received[1:])


def measure(bench: Bench, kind: str, requests: int, turns: int) -> bool:
    """Whether it costs more than is wanted."""
    costs: dict[bool, list[Cost]] = {False: [], True: []}
    for turn in range(turns):
        digests = []
        for away in (True, False):
            first = (2 * turn + (away and kind != "128 pictures")) * requests
            contents = [KINDS[kind](first + each) for each in range(requests)]
            bench.plug(away=away)
            cost, found = bench.ask(contents)
            costs[away].append(cost)
            digests.append(found)
        assert kind != "128 pictures" or digests[0] == digests[1], "they differ, or their order does"
    here, there = median_of(costs[False]), median_of(costs[True])
    ratio = there.makers_s / here.makers_s
    print(
        f"{kind}: made here {here.makers_s * 1e3:.1f} ms of CPU, received {there.makers_s * 1e3:.1f} ms: {ratio:.3f} "
        f"(wanted {WANTED[kind]}); all processes {here.all_s * 1e3:.1f} and {there.all_s * 1e3:.1f} ms: "
        f"{there.all_s / here.all_s:.2f}; features {there.features_bytes / 1e6:.2f} MB, in {there.in_bytes / 1e6:.2f} "
        f"MB, out {there.out_bytes / 1e6:.2f} MB",
        flush=True,
    )
    return ratio > WANTED[kind]


def main() -> int:
    """The exit status: 1 when something costs more than is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=30, help="pictures in each turn; a fifth as many clips")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--tls", action="store_true", help="encrypt what crosses the network")
    options = parser.parse_args()
    requests = {"picture": options.items, "clip": max(1, options.items // 5), "128 pictures": 1}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        key = write_key(folder)
        secrets, joining = tls_flags(folder) if options.tls else ((), ())
        network = Network(MACHINES)
        stack.callback(network.close)
        stack.enter_context(network.inside(0))
        live = stack.enter_context(serving(long_tiny(folder / "tiny"), *flags(key), *secrets, tp=1, executed=True))
        for number in range(1, MACHINES + 1):
            outpost = Outpost(network, number, key, "--workers", "1", "--arena-bytes", str(512 * 2**20), *joining)
            stack.callback(outpost.stop)
        bench = Bench(live, network)
        missed = [measure(bench, kind, count, options.turns) for kind, count in requests.items()]
        bench.plug(away=True)
    return int(any(missed))


def flags(key: Path) -> list[str]:
    """Of the server."""
    joining = (*JOINING, "--cluster-key-file", str(key), "--workers", "1", "--runner", "null", "--cache", "off")
    room = ("--arena-bytes", str(2**30), "--prefill-tokens", str(CONTEXT_TOKENS))
    return [*joining, *room, "--images-max", str(MANY), "--video-frames-max", "8"]


def long_tiny(folder: Path) -> Path:
    """The small model, with a context that a clip of 720p fits into."""
    build_tiny(folder, weights=SHIPPED_WEIGHTS)
    config = json.loads((folder / "config.json").read_text())
    config.get("text_config", config)["max_position_embeddings"] = CONTEXT_TOKENS
    (folder / "config.json").write_text(json.dumps(config))
    return folder


if __name__ == "__main__":
    sys.exit(main())
