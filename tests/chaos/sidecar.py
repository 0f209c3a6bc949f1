"""The sidecar's kill matrix: `python -m tests.chaos.sidecar [--rounds 300]`; a line for each round.

Two producers and a group of two ranks, each a process. In each round one party is killed (producer, rank, worker,
keeper) at one stage of an item (being made, held, leased, read). Then every survivor sees the right bytes or a typed
error, the killed party's successor works, and nothing is left that anybody holds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from blake3 import blake3
from preloaded import Preloaded
from sidecar_live import LiveSidecar, at_rest, until

from attaching import Attached, picture
from mmplane.config import Config
from mmplane.core.records import Ask, BackendName
from mmplane.features.choice import choose
from mmplane.media.materialise import examine, materialise
from mmplane.models.tiny import SHIPPED_WEIGHTS, build_tiny

VICTIMS = ("producer", "rank", "worker", "keeper")
STAGES = ("making", "held", "leased", "read")
RANKS = 2
FLAGS = ("--workers", "1", "--arena-bytes", str(32 * 2**20), "--encoding", "float32", "--stall-seconds", "30")


PLAIN = Ask("image")


class Round(NamedTuple):
    number: int
    victim: str
    stage: str


def rounds(count: int) -> list[Round]:
    """Every cell of the matrix in turn."""
    cells = list(product(STAGES, VICTIMS))
    return [Round(number, *reversed(cells[number % len(cells)])) for number in range(count)]


class Expected:
    """What an item's features are, made in this process."""

    def __init__(self, model_folder: Path, backend: BackendName = "pil") -> None:
        config = Config(
            model="",
            model_folder=str(model_folder),
            served_name="",
            encoding="float32",
            device="cpu",
            backend=backend,
        )
        self._processors = choose(config)

    def digest(self, media: bytes, ask: Ask = PLAIN) -> str:
        recipe = examine(self._processors, media, ask)
        out = bytearray(recipe.layout.length_bytes)
        materialise(self._processors, media, recipe, memoryview(out))
        features = recipe.layout.tensors[0]
        end_bytes = recipe.layout.tensors[1].offset_bytes
        assert features.offset_bytes == 0
        return blake3(out[:end_bytes]).hexdigest()


class Ground:
    """A sidecar and the processes that are attached to it, from round to round."""

    def __init__(self, model_folder: Path, live: LiveSidecar) -> None:
        self._expected = Expected(model_folder)
        self._live = live
        self._client = live.client()
        self._producers = [self._attach("producer") for _ in range(2)]
        self._ranks = self._group()
        self.made = 0

    def play(self, round_: Round) -> None:
        """Raises AssertionError when something is not as it must be."""
        media = picture(f"round {round_.number}", 84)
        want = self._expected.digest(media)
        if round_.stage == "making":
            self._kill_while_making(round_.victim, media, want)
        else:
            self._kill_later(round_, media, want)
        self._replace()
        self._check_that_all_work(round_, want, media)

    def close(self) -> None:
        for process in (*self._producers, *self._ranks):
            process.kill()
        self._client.close()

    def _kill_while_making(self, victim: str, media: bytes, want: str) -> None:
        worker = self._live.process("worker 1")
        worker.suspend()
        for producer in self._producers:
            producer.begin("make", media)
        until(self._client, lambda now: now["requests"] == len(self._producers))
        self._kill(victim)
        if victim != "worker":
            worker.resume()
        may_be_lost = victim in ("worker", "keeper")
        for producer in self._living(self._producers):
            answer = producer.end()
            assert (may_be_lost and answer == "Lost") or answer[0] == want, answer

    def _kill_later(self, round_: Round, media: bytes, want: str) -> None:
        for producer in self._producers:
            assert producer.tell("make", media)[0] == want
        if round_.stage in ("leased", "read"):
            record = self._producers[0].tell("lease", "0")
        if round_.stage == "read":
            for rank in self._ranks:
                assert rank.tell("open", record) == want
        self._kill(round_.victim)
        if round_.stage == "leased":  # the message was under way
            for rank in self._living(self._ranks):
                assert rank.tell("open", record) == want
        for process in self._living((*self._producers, *(self._ranks if round_.stage == "read" else ()))):
            assert process.tell("see") == want

    def _kill(self, victim: str) -> None:
        match victim:
            case "producer":
                self._producers[0].kill()
            case "rank":
                self._ranks[1].kill()
            case "worker":
                self._live.process("worker 1").kill()
            case "keeper":
                self._live.process("sidecar").kill()

    def _replace(self) -> None:
        """What an engine does: a producer alone, ranks as a group."""
        for process in self._living((*self._producers, *self._ranks)):
            process.tell("drop")
        if self._ranks[1] not in self._living(self._ranks):
            self._ranks[0].kill()
            until(self._client, lambda now: "rank" not in now["sessions"])
            self._ranks = self._group()
        self._producers = [
            producer if producer in self._living(self._producers) else self._attach("producer")
            for producer in self._producers
        ]

    def _check_that_all_work(self, round_: Round, want: str, media: bytes) -> None:
        new = picture(f"after round {round_.number}", 84)  # the next round begins with a worker that works
        for producer in self._producers:
            producer.tell("wait")
            producer.tell("ranks", "0")
            assert self._made(producer, new) == self._expected.digest(new)
            assert self._made(producer, media) == want
            producer.tell("ranks", "0")
            record = producer.tell("lease", "0")
            assert [rank.tell("open", record) for rank in self._ranks] == [want] * RANKS
        for process in (*self._producers, *self._ranks):
            process.tell("drop")
        now = until(self._client, at_rest)
        assert now["sessions"] == {"producer": 3, "rank": RANKS}, now["sessions"]

    def _made(self, producer: Attached, media: bytes) -> str:
        """The digest of the item, after a worker's or a keeper's loss has been heard of."""
        while (answer := producer.tell("make", media)) == "Lost":
            producer.tell("wait")
        digest: str = answer[0]
        return digest

    def _attach(self, role: str, *arguments: object) -> Attached:
        process = Attached(str(self._live.path), role, *arguments)
        assert process.end() == "attached"
        return process

    def _group(self) -> list[Attached]:
        ranks = [Attached(str(self._live.path), "rank", 0, rank, RANKS) for rank in range(RANKS)]
        assert [rank.end() for rank in ranks] == ["attached"] * RANKS
        return ranks

    def _living(self, processes: list[Attached] | tuple[Attached, ...]) -> list[Attached]:
        return [process for process in processes if process.process.poll() is None]


def main() -> int:
    """0 only if every round ended as it must."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.sidecar", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="fewer than 16 leave cells of the matrix out")
    options = parser.parse_args()
    began_s, played = monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="chaos-sidecar-") as folder, ExitStack() as stack:
        build_tiny(Path(folder) / "tiny", weights=SHIPPED_WEIGHTS)
        preloaded = Preloaded()
        stack.callback(preloaded.close)
        live = LiveSidecar(Path(folder) / "tiny", Path(folder) / "socket", *FLAGS, preloaded=preloaded)
        stack.callback(live.stop)
        ground = Ground(Path(folder) / "tiny", live)
        stack.callback(ground.close)
        for round_ in rounds(options.rounds):
            ground.play(round_)
            played += 1
            print(*round_, "ok", flush=True)
    print(f"{played} rounds in {monotonic() - began_s:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
