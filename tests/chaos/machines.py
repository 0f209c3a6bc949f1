"""Media machines are lost in every way while pictures are asked for that nobody has seen: `make chaos-machines`.

Each picture is new: transformers computes here what its digest must be, and no file comes to two strikes by accident.
After each loss it is measured how long it takes until the machine makes an item again: from the kill or the stop of a
process, or from when a cable is plugged in or a machine goes on. With one worker on a machine, it is another worker.
"""

from __future__ import annotations

import itertools
import random
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from threading import Event
from time import monotonic, sleep
from typing import Any

from blake3 import blake3
from live import Live, serving
from machines import JOINING, Network, Outpost, machines, write_key
from pictures import jpeg, part, text
from reference import Reference

from mmplane.models.tiny import SHIPPED_WEIGHTS, build_tiny
from polling import until

BACK_S = 120.0
"""It only tells progress from a hang."""
PROMISED_S = 10.0
REQUESTS, PICTURES = 4, 4
MACHINES = 2
CLIENTS = REQUESTS + MACHINES
ASKING = 5
"""More than the other machine has lanes: if it holds all that it was sent, this one is still asked."""
ASK_S = 0.25
DOWN_S = 3.0
FLAGS = ("--cache", "off", "--workers", "1", "--item-seconds", "4", "--images-max", "128")
MACHINE_FLAGS = ("--workers", "1")


class Rounds:
    """Counts over all rounds: `asked`, `right`, `refused` (503), `wrong` digests, `poisoned` files. `back_s` has the
    seconds until all was back, by kind of loss.
    """

    LOST_WITHIN_S = 0.1
    """After the requests have been sent."""

    def __init__(self, network: Network, live: Live, outposts: list[Outpost], key: Path, model: Path) -> None:
        self._network = network
        self._live = live
        self._outposts = outposts
        self._key = key
        self._reference = Reference(model)
        self._random = random.Random(20261128)
        self._numbers = itertools.count(10_000)
        self._deck: list[Callable[[int], None]] = []
        self._asked: list[tuple[list[bytes], Any]] = []
        """Of this round: pictures, and the answer or its future."""
        self.asked = self.right = self.refused = self.wrong = self.poisoned = 0
        self.back_s: defaultdict[str, list[float]] = defaultdict(list)

    def play(self, clients: Executor) -> list[str]:
        """Ask, lose something of each machine meanwhile, wait until all is back, and judge every answer.

        Returns what was lost.
        """
        lost = [self._drawn() for _ in self._outposts]
        for pictures in [self._new(PICTURES) for _ in range(REQUESTS)]:
            self._asked.append((pictures, clients.submit(self._chat, pictures)))
        sleep(self._random.random() * self.LOST_WITHIN_S)  # chance decides what is under way
        for losing in [clients.submit(self._lose, event, number) for number, event in enumerate(lost)]:
            losing.result()
        for pictures, answer in self._asked:
            self._judge(pictures, answer.result() if isinstance(answer, Future) else answer)
        self._asked.clear()
        return [event.__name__ for event in lost]

    def _drawn(self) -> Callable[[int], None]:
        """Every way once before one of them comes again, with chance partners."""
        if not self._deck:
            self._deck = self.ways()
            self._random.shuffle(self._deck)
        return self._deck.pop()

    def _lose(self, event: Callable[[int], None], number: int) -> None:
        event(number)
        ended_s = monotonic()
        until(self.all_are_back, BACK_S, f"all are back after {event.__name__}")
        self.back_s[event.__name__].append(monotonic() - ended_s)

    def _new(self, count: int) -> list[bytes]:
        return [jpeg(next(self._numbers), 420, 320) for _ in range(count)]

    def _chat(self, pictures: list[bytes]) -> Any:
        return self._live.chat([text("And these?"), *map(part, pictures)], max_tokens=1, mmplane={"trace": True})

    def ways(self) -> list[Callable[[int], None]]:
        """What is lost in turn; each is called with the number of a machine."""
        lost = [self.worker_killed, self.worker_stopped, self.outpost_killed, self.outpost_stopped]
        lost += [self.porter_killed, self.porter_stopped, self.machine_killed, self.machine_stopped]
        return [*lost, self.link_down, self.link_cut]

    def all_are_back(self) -> bool:
        return len(machines(self._live)) == MACHINES

    def _judge(self, pictures: list[bytes], answer: Any) -> None:
        self.asked += 1
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
        self._outposts[number] = Outpost(self._network, number + 1, self._key, *MACHINE_FLAGS)

    def machine_stopped(self, number: int) -> None:
        """Until it has been missed."""
        supervisor = self._outposts[number].supervisor
        processes = [supervisor, *supervisor.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            self._until_missed(number)
        finally:
            for process in reversed(processes):  # the supervisor last: it would find its children stopped
                process.resume()

    def link_down(self, number: int) -> None:
        """For less than it takes to be missed, or for a little more."""
        self._network.link(number + 1, up=False)
        sleep(DOWN_S)
        self._network.link(number + 1, up=True)

    def link_cut(self, number: int) -> None:
        """Until the machine has been missed."""
        self._network.link(number + 1, up=False)
        try:
            self._until_missed(number)
        finally:
            self._network.link(number + 1, up=True)

    def _porter(self, number: int) -> Any:
        """Once there is one: after a short loss of the link the machine may just be joining again."""
        title = f"porter machine-{number + 1}"
        return until(lambda: self._live.processes().get(title), BACK_S, f"there is a {title}")

    def _until_missed(self, number: int) -> None:
        until(lambda: f"machine-{number + 1}" not in machines(self._live), BACK_S, "it is missed")

    def late(self) -> int:
        """How many were back later than is promised."""
        return sum(seconds > PROMISED_S for found in self.back_s.values() for seconds in found)

    def __str__(self) -> str:
        kinds = [
            f"  {kind}: {len(found)} times, back after {median(found):.1f} s (median), {max(found):.1f} s at most"
            for kind, found in sorted(self.back_s.items())
        ]
        losses = (
            f"{sum(map(len, self.back_s.values()))} losses: {self.asked} requests, {self.right} right, {self.refused} "
            f"refused, {self.wrong} wrong, {self.poisoned} poisoned; {self.late()} back after more than {PROMISED_S} s"
        )
        return "\n".join((losses, *kinds))


class MachineRounds(Rounds):
    """Back is a machine that makes an item again. What the other machine holds meanwhile delays nothing here."""

    def _lose(self, event: Callable[[int], None], number: int) -> None:
        name, lost = event.__name__, self._outposts[number]
        worker, joins = lost.process("worker 1"), lost.joins
        since_s = monotonic()
        event(number)
        if name in ("machine_stopped", "link_cut", "link_down"):
            since_s = monotonic()
        with self._asking(number):
            if name.startswith("worker"):
                until(lambda: lost.has_other("worker 1", worker), BACK_S, f"another worker after {name}")
            elif name != "link_down":  # it may have joined again by now
                there = self._outposts[number]
                before = joins if there is lost else 0
                until(lambda: there.joins > before, BACK_S, f"it has joined again after {name}")
            self._until_it_makes_an_item(number, name)
            self.back_s[name].append(monotonic() - since_s)
        until(self.all_are_back, BACK_S, f"each machine has joined once after {name}")

    @contextmanager
    def _asking(self, number: int) -> Iterator[None]:
        """Ask for one picture after another while this machine is there."""
        ended = Event()

        def ask() -> None:
            while not ended.wait(ASK_S):
                if self._tallies(number):
                    pictures = self._new(1)
                    self._asked.append((pictures, self._chat(pictures)))

        with ThreadPoolExecutor(ASKING) as clients:
            asking = [clients.submit(ask) for _ in range(ASKING)]
            try:
                yield
            finally:
                ended.set()
        for each in asking:
            each.result()

    def _until_it_makes_an_item(self, number: int, name: str) -> None:
        made = self._made(number)

        def makes_again() -> bool:
            nonlocal made
            now = self._made(number)
            made = min(made, now)  # it has joined again, and counts from 0
            return now > made

        until(makes_again, BACK_S, f"machine-{number + 1} makes an item after {name}")

    def _tallies(self, number: int) -> list[dict[str, Any]]:
        """Of the machine; two when it has joined again, at another place, before its loss is noticed."""
        there = self._live.statistics()["workers"]["machines"]
        return [each for each in there if each["machine"] == f"machine-{number + 1}"]

    def _made(self, number: int) -> int:
        """Items since it joined."""
        return sum(each["items"] for each in self._tallies(number))


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
        outposts = [Outpost(network, number, key, *MACHINE_FLAGS) for number in (1, 2)]
        stack.callback(lambda: [outpost.stop() for outpost in outposts])
        until(lambda: len(machines(live)) == MACHINES, BACK_S, "all have joined")
        played = MachineRounds(network, live, outposts, key, model)
        clients = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        stack.callback(lambda: print(played))
        for number in range(losses // MACHINES):
            began_s = monotonic()
            lost = played.play(clients)
            live.settle()
            print(f"{number + 1}: {', '.join(lost)}: {monotonic() - began_s:.1f} s", flush=True)
    return int(played.wrong + played.poisoned + played.late() > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
