"""A plane with its ranks: all in this process, or each in one of its own."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmplane import Address, Inbox, Leased, Plane

MIB = 2**20
Floats = npt.NDArray[np.float32]


class Rig:
    """A plane and its ranks, all in this process."""

    def __init__(self, *, arena_bytes: int = 4 * MIB, groups: tuple[int, ...] = (2,)) -> None:
        self.address = Address.create(arena_bytes, groups)
        self.plane = Plane(self.address)
        self.inboxes = [Inbox(self.address, rank) for rank in range(self.address.ranks)]

    def leased_bytes(self) -> int:
        leased: int = self.plane.statistics()["arena"].total.leased_bytes
        return leased


class Remote:
    """A rank in a process of its own."""

    def __init__(self, address: Address, rank: int) -> None:
        program = Path(__file__).with_name("embed_rank.py")
        command = [sys.executable, str(program), address.text(), str(rank)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._answer() == "ready"

    def tell(self, command: str, leased: Leased | None = None) -> float:
        """One command; the sum of what the rank sees after it."""
        record = base64.b64encode(leased.encode()).decode() if leased else ""
        return float(self._ask(f"{command} {record}"))

    def digest(self) -> str:
        """Of the view that it holds."""
        return self._ask("digest")

    def _ask(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def remotes(address: Address) -> Iterator[list[Remote]]:
    with ExitStack() as stack:
        ranks = []
        for rank in range(address.ranks):
            ranks.append(Remote(address, rank))
            stack.callback(ranks[-1].kill)
        yield ranks


def floats(seed: int, count: int = 100_000) -> Floats:
    return np.random.default_rng(seed).random(count, np.float32)


def key(seed: int) -> bytes:
    return seed.to_bytes(32, "little")
