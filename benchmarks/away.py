"""What does an item cost the serving machine when a media machine makes it, and what crosses the network?

    PYTHONPATH=tests/process:tests/shared python benchmarks/away.py [--items 30] [--turns 3] [--tls]

A server with one worker and two media machines in network namespaces (needs root), in turns: with the cables out, the
server's own worker makes each item; with them in, the media machines do. Every picture and clip that counts is new.
The serving machine's CPU is that of every process of the server there: supervisor, nursery, front end, parser, worker
and porters. The rank is shown, but not counted: a model computes the same on both sides, and with `--runner null` the
rank turns each item's bytes into floats, which a GPU does otherwise. The ratio is also shown with the rank, and for
what makes or receives features alone (worker and porters). What the kernel does for packets outside of these processes
is not counted.

A request's own cost (HTTP, the prompt, the ranks' messages) is in the figures too, on both sides; the last line says
what it is for a request without an item. One more request in each turn, the same in both, is traced, and its digests
must be equal, in order; it does not count, since the rank hashes what is traced. Wanted: at most 0.25 of local for a
JPEG of 1288x966 and for the 128 pictures of 512x512, 0.06 for a clip of 720p; over the network the file, and the
features once.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from live import Live, serving
from machines import JOINING, Network, Outpost, machines, tls_flags, write_key
from pictures import part, photograph, text
from PIL import Image

from clips import clip_part
from mmplane.bench.inputs.sources import Source, encoded
from mmplane.models.tiny import SHIPPED_WEIGHTS, build_tiny
from polling import until

LIMIT_S = 120.0
MAKERS = ("worker", "porter")
WANTED = {"picture": 0.25, "clip": 0.06, "128 pictures": 0.25}
MANY = 128
SHOWN_S = 5e-5
TRACED = 500
"""Pictures and clips from here on are those that are traced."""
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
    """Of an item: CPU seconds of this machine's processes, by role; bytes of features, and moved."""

    cpu_s: dict[str, float]
    features_bytes: float
    in_bytes: float
    out_bytes: float

    @property
    def counted_s(self) -> float:
        """CPU seconds of all processes but the rank."""
        return self.all_s - self.cpu_s.get("rank", 0.0)

    @property
    def all_s(self) -> float:
        """CPU seconds of all processes."""
        return sum(self.cpu_s.values())

    @property
    def makers_s(self) -> float:
        """CPU seconds of what makes or receives features."""
        return sum(self.cpu_s.get(role, 0.0) for role in MAKERS)

    def shares(self) -> str:
        """Milliseconds by role, the largest first, without those that round to nothing."""
        found = sorted(self.cpu_s.items(), key=lambda each: -each[1])
        return ", ".join(f"{role} {seconds * 1e3:.1f}" for role, seconds in found if seconds >= SHOWN_S)


def middle(costs: list[Cost]) -> Cost:
    """The one with the median of CPU seconds, of an odd number."""
    return sorted(costs, key=lambda each: each.counted_s)[len(costs) // 2]


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

    def ask(self, contents: list[Content], features_bytes: float) -> Cost:
        """What these requests cost."""
        before, received, sent = self._cpu_s(), *self._moved_bytes()
        for content in contents:
            self._chat(content)
        after, received_then, sent_then = self._cpu_s(), *self._moved_bytes()
        items = sum(map(len, contents)) or len(contents)
        spent = {role: (after[role] - before.get(role, 0.0)) / items for role in after}
        return Cost(spent, features_bytes, (received_then - received) / items, (sent_then - sent) / items)

    def traced(self, content: Content) -> tuple[float, list[Any]]:
        """Bytes of features of an item, and the digests of all."""
        items = self._chat(content, mmplane={"trace": True})["mmplane"]["trace"]["items"]
        return sum(item["bytes"] for item in items) / len(items), [item["digests"] for item in items]

    def text(self, requests: int) -> Cost:
        """What a request without an item costs."""
        return self.ask([[]] * requests, 0.0)

    def _chat(self, content: Content, **more: Any) -> Any:
        answer = self._live.chat([*content, text("?")], max_tokens=1, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

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
            first = (2 * turn + away) * requests
            contents = [KINDS[kind](first + each) for each in range(requests)]
            bench.plug(away=away)
            features_bytes, found = bench.traced(KINDS[kind](TRACED + turn))
            costs[away].append(bench.ask(contents, features_bytes))
            digests.append(found)
        assert digests[0] == digests[1], "they differ, or their order does"
    here, there = middle(costs[False]), middle(costs[True])
    ratio = there.counted_s / here.counted_s
    print(
        f"{kind}: made here {here.counted_s * 1e3:.1f} ms of CPU ({here.shares()}), received "
        f"{there.counted_s * 1e3:.1f} ms ({there.shares()}): {ratio:.3f} (wanted {WANTED[kind]}), with the rank "
        f"{there.all_s / here.all_s:.3f}, of worker and porters alone {there.makers_s / here.makers_s:.3f}; features "
        f"{there.features_bytes / 1e6:.2f} MB, in {there.in_bytes / 1e6:.2f} MB, out {there.out_bytes / 1e6:.2f} MB",
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
        floor = middle([bench.text(options.items) for _ in range(options.turns)])
        print(f"text alone: {floor.counted_s * 1e3:.1f} ms of CPU ({floor.shares()})")
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
