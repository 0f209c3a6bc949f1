"""A group of ranks on two machines loses something again and again while pictures are asked for: `make chaos-nodes`."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from live import Live
from machines import PORT, SERVER, Network, Outpost, write_key
from pictures import part, photograph, text
from tests.chaos.machines import BACK_S, REQUESTS, Rounds

from mmplane.models.tiny import SHIPPED_WEIGHTS, build_tiny
from polling import until

KNOWN = [text("What is this?"), part(photograph("china"))]
TOKENS = 20


class Setting(NamedTuple):
    network: Network
    live: Live
    nodes: list[Outpost]
    """The last one is there."""
    model: Path
    key: Path


def joining(network: Network, key: Path, model: Path, ranks: int = 1, number: int = 1) -> Outpost:
    return Outpost(network, number, key, "--ranks", str(ranks), "--model", str(model), workers=False)


@contextmanager
def over_machines(folder: Path, tp: int, *flags: str, machines: int = 2) -> Iterator[Setting]:
    """A server with ranks on this many machines, itself included."""
    model, key, network = folder / "tiny", write_key(folder), Network(machines - 1)
    build_tiny(model, weights=SHIPPED_WEIGHTS)
    nodes = [joining(network, key, model, tp // machines, number) for number in range(1, machines)]
    try:
        with network.inside(0):
            own = ("--nodes", str(machines), "--join-host", SERVER, "--join-port", str(PORT))
            live = Live(model, *own, "--cluster-key-file", str(key), *flags, tp=tp)
            try:
                yield Setting(network, live, nodes, model, key)
                live.settle()
            finally:
                live.stop()
    finally:
        for node in nodes:
            node.stop()
        network.close()


class Losses(Rounds):
    """One in each round. Afterwards the group must give the tokens that it gave at first."""

    LOST_WITHIN_S = 3.0
    """After the requests have been sent."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting.network, setting.live, setting.nodes, setting.key, setting.model)
        self._setting = setting
        self._tokens = self._answer().json()["mmplane"]["trace"]["token_ids"]

    def ways(self) -> list[Callable[[int], None]]:
        ours = [self.leader_killed, self.leader_stopped, self.stand_in_killed, self.stand_in_stopped]
        theirs = [self.rank_killed, self.rank_stopped, self.node_killed, self.node_stopped]
        return [*ours, *theirs, self.machine_killed, self.link_down, self.link_cut]

    def all_are_back(self) -> bool:
        answer = self._answer()
        if answer.status_code == 503:
            return False
        self.wrong += answer.json()["mmplane"]["trace"]["token_ids"] != self._tokens
        return True

    def _answer(self) -> Any:
        return self._live.chat(KNOWN, max_tokens=TOKENS, ignore_eos=True, mmplane={"trace": True})

    def leader_killed(self, _: int) -> None:
        self._live.processes()["rank 0/2"].kill()

    def leader_stopped(self, _: int) -> None:
        self._live.processes()["rank 0/2"].send_signal(signal.SIGSTOP)

    def stand_in_killed(self, _: int) -> None:
        self._live.processes()["stand-in machine-1"].kill()

    def stand_in_stopped(self, _: int) -> None:
        self._live.processes()["stand-in machine-1"].send_signal(signal.SIGSTOP)

    def rank_killed(self, number: int) -> None:
        self._outposts[number].process("rank 1/2").kill()

    def rank_stopped(self, number: int) -> None:
        self._outposts[number].process("rank 1/2").send_signal(signal.SIGSTOP)

    def node_killed(self, number: int) -> None:
        self._outposts[number].process("node").kill()

    def node_stopped(self, number: int) -> None:
        self._outposts[number].process("node").send_signal(signal.SIGSTOP)

    def machine_killed(self, number: int) -> None:
        lost = self._outposts[number]
        lost.kill()
        lost.stop()
        self._outposts[number] = joining(self._network, self._setting.key, self._setting.model)

    def link_cut(self, number: int) -> None:
        """Until the group has ended."""
        leader = self._live.pids()["rank 0/2"]
        self._network.link(number + 1, up=False)
        try:
            until(lambda: self._live.pids().get("rank 0/2") != leader, BACK_S, "it is missed")
        finally:
            self._network.link(number + 1, up=True)


def main(losses: int) -> int:
    """The exit status."""
    with tempfile.TemporaryDirectory() as folder, over_machines(Path(folder), 2, "--cache", "off") as setting:
        played = Losses(setting)
        with ThreadPoolExecutor(REQUESTS + 1) as clients:
            for _ in range(losses):
                played.play(clients)
                setting.live.settle()
                print(played, flush=True)
    return int(played.wrong + played.poisoned > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
