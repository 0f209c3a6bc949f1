"""Media machines are lost in every way while pictures are asked for that nobody has seen: `make chaos-machines`.

Each picture is new: transformers computes here what its digest must be, and no file comes to two strikes by accident.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from blake3 import blake3
from live import Live, serving, until
from machines import JOINING, Network, Outpost, machines, write_key
from pictures import jpeg, part, text
from reference import Reference

from mmplane.models.tiny import SHIPPED_WEIGHTS, build_tiny

BACK_S = 120.0
"""Ten seconds are promised for a machine that was not restarted; this only tells progress from a hang."""
REQUESTS, PICTURES = 4, 4
MACHINES = 2
CLIENTS = REQUESTS + MACHINES
DOWN_S = 3.0
FLAGS = ("--cache", "off", "--workers", "1", "--item-seconds", "4", "--images-max", "128")


class Rounds:
    """Counts over all rounds: `asked`, `right`, `refused` (503), `wrong` digests, `poisoned` files; events by name."""

    LOST_WITHIN_S = 0.1
    """After the requests have been sent."""

    def __init__(self, network: Network, live: Live, outposts: list[Outpost], key: Path, model: Path) -> None:
        self._network = network
        self._live = live
        self._outposts = outposts
        self._key = key
        self._reference = Reference(model)
        self._random = random.Random(20261128)
        self._picture = 10_000
        self.asked = self.right = self.refused = self.wrong = self.poisoned = 0
        self.events: Counter[str] = Counter()
        self.back_s: list[float] = []

    def play(self, clients: Executor) -> None:
        """Ask, lose something of each machine meanwhile, judge every answer, and wait until all is back."""
        ways = self.ways()
        played = sum(self.events.values())
        lost = [ways[(played + number) % len(ways)] for number in range(len(self._outposts))]
        asked = [self._ask(clients) for _ in range(REQUESTS)]
        sleep(self._random.random() * self.LOST_WITHIN_S)  # chance decides what is under way
        for losing in [clients.submit(event, number) for number, event in enumerate(lost)]:
            losing.result()
        ended_s = monotonic()
        names = [event.__name__ for event in lost]
        self.events.update(names)
        for pictures, answer in asked:
            self._judge(pictures, answer.result())
        until(self.all_are_back, BACK_S, f"all are back after {names}")
        self.back_s.append(monotonic() - ended_s)

    def ways(self) -> list[Callable[[int], None]]:
        """What is lost in turn; each is called with the number of a machine."""
        lost = [self.worker_killed, self.worker_stopped, self.outpost_killed, self.outpost_stopped]
        lost += [self.porter_killed, self.porter_stopped, self.machine_killed, self.link_down, self.link_cut]
        return lost

    def all_are_back(self) -> bool:
        return len(machines(self._live)) == MACHINES

    def _ask(self, clients: Executor) -> tuple[list[bytes], Future[Any]]:
        pictures = []
        for _ in range(PICTURES):
            self._picture += 1
            pictures.append(jpeg(self._picture, 420, 320))
        content = [text("And these?"), *map(part, pictures)]
        self.asked += 1
        return pictures, clients.submit(self._live.chat, content, max_tokens=1, mmplane={"trace": True})

    def _judge(self, pictures: list[bytes], answer: Any) -> None:
        if answer.status_code == 503:
            self.refused += 1
        elif answer.status_code == 400:
            self.poisoned += 1
        else:
            assert answer.status_code == 200, answer.text
            found = [set(item["digests"].values()) for item in answer.json()["mmplane"]["trace"]["items"]]
            if found == [{self._digest(picture)} for picture in pictures]:
                self.right += 1
            else:
                self.wrong += 1

    def _digest(self, picture: bytes) -> str:
        return blake3(self._reference.features(picture)["pixel_values"].contiguous().numpy().tobytes()).hexdigest()

    # What is lost.

    def worker_killed(self, number: int) -> None:
        self._outposts[number].process("worker 1").kill()

    def worker_stopped(self, number: int) -> None:
        self._outposts[number].process("worker 1").send_signal(signal.SIGSTOP)

    def outpost_killed(self, number: int) -> None:
        self._outposts[number].process("outpost").kill()

    def outpost_stopped(self, number: int) -> None:
        self._outposts[number].process("outpost").send_signal(signal.SIGSTOP)

    def porter_killed(self, number: int) -> None:
        self._porter(number).kill()

    def porter_stopped(self, number: int) -> None:
        self._porter(number).send_signal(signal.SIGSTOP)

    def machine_killed(self, number: int) -> None:
        lost = self._outposts[number]
        lost.kill()
        lost.stop()
        self._outposts[number] = Outpost(self._network, number + 1, self._key)

    def link_down(self, number: int) -> None:
        """For less than it takes to be missed, or for a little more."""
        self._network.link(number + 1, up=False)
        sleep(DOWN_S)
        self._network.link(number + 1, up=True)

    def link_cut(self, number: int) -> None:
        """Until the machine has been missed."""
        self._network.link(number + 1, up=False)
        try:
            until(lambda: f"machine-{number + 1}" not in machines(self._live), BACK_S, "it is missed")
        finally:
            self._network.link(number + 1, up=True)

    def _porter(self, number: int) -> Any:
        return self._live.processes()[f"porter machine-{number + 1}"]

    def __str__(self) -> str:
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(self.events.items()))
        return (
            f"{sum(self.events.values())} losses ({kinds}): {self.asked} requests, {self.right} right, "
            f"{self.refused} refused, {self.wrong} wrong, {self.poisoned} poisoned; "
            f"back after {max(self.back_s):.1f} s at most"
        )


def main(losses: int) -> int:
    """The exit status."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        key = write_key(folder)
        network = Network(MACHINES)
        stack.callback(network.close)
        stack.enter_context(network.inside(0))
        model = folder / "tiny"
        build_tiny(model, weights=SHIPPED_WEIGHTS)
        flags = (*FLAGS, *JOINING, "--cluster-key-file", str(key))
        live = stack.enter_context(serving(model, *flags, tp=1))
        outposts = [Outpost(network, number, key) for number in (1, 2)]
        stack.callback(lambda: [outpost.stop() for outpost in outposts])
        until(lambda: len(machines(live)) == MACHINES, BACK_S, "all have joined")
        played = Rounds(network, live, outposts, key, model)
        clients = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        for _ in range(losses // MACHINES):
            played.play(clients)
            live.settle()
            print(played, flush=True)
    return int(played.wrong + played.poisoned > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
