"""The matrix as data: who is hit, how, at which stage of a request, and what must follow.

Any process may die or stand still at any moment, so every victim goes with every stage: no pair is left out. What a
stage needs is a process that can be held there, in the middle of a request.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

STALL_SECONDS = 3.0
ITEM_SECONDS = 4.0
FLAGS = (
    *("--stall-seconds", f"{STALL_SECONDS:g}", "--item-seconds", f"{ITEM_SECONDS:g}"),
    *("--workers", "2", "--arena-bytes", str(128 * 2**20), "--log-level", "info"),
)
BACK_LIMIT_S = 10.0
"""From a victim's death until it is replaced and a picture that nobody has sent is answered."""
GONE_LIMIT_S = 5.0
"""From the supervisor's death until nothing of the server is left."""
NOTICE_SLACK_S = 2.0

RANKS = ("leader", "follower")
STAGES: dict[str, tuple[str, ...]] = {
    "queue": ("frontend",),
    "parse": ("parser",),
    "fetch": ("frontend",),
    "key": ("frontend",),
    "probe": ("frontend",),
    "slot_wait": ("frontend",),
    "decode": ("worker",),
    "transform": ("worker",),
    "handoff": ("worker",),
    "deliver": RANKS,
    "prefill": RANKS,
    "generate": RANKS,
}
"""In a request's order, with the roles that can be held there. `generate` is the decoding of tokens."""
SIGNALS = ("SIGKILL", "SIGSTOP")


@dataclass(frozen=True)
class Victim:
    """What follows from the loss of one role."""

    replaced: tuple[str, ...] = ()
    """Titles, by their beginning, of the processes that are new afterwards; all others are the same as before. `{}` is
    the victim's own."""
    breaks: bool = False
    """Whether connections may break; else whoever asked gets an answer or a 503."""
    noticed_s: float = STALL_SECONDS
    """How long it may stand still before it is killed."""


VICTIMS = {
    "frontend": Victim(("frontend", "parser", "worker"), breaks=True),
    "parser": Victim(("{}",)),
    "worker": Victim(("{}",), noticed_s=ITEM_SECONDS + STALL_SECONDS),
    "leader": Victim(("rank",)),
    "follower": Victim(("rank",)),
    "supervisor": Victim(breaks=True),
    "client": Victim(),
}


@dataclass(frozen=True)
class Round:
    """One cell of the matrix, once. `holder` is the role that is held at the stage."""

    number: int
    victim: str
    signal: str
    stage: str
    holder: str
    seed: int

    def __str__(self) -> str:
        return f"{self.victim} {self.signal} at {self.stage} of the {self.holder}"


def rounds(count: int, seed: int) -> list[Round]:
    """Every cell twice, each time with another holder where there are two; then cells drawn at random, to `count`."""
    drawn = random.Random(seed)
    cells = [(*cell, turn) for turn in range(2) for cell in product(VICTIMS, SIGNALS, STAGES)]
    drawn.shuffle(cells)
    while len(cells) < count:
        cells.append((*drawn.choice(cells)[:3], drawn.randrange(2)))
    return [_round(number, *cell, drawn.randrange(2**31)) for number, cell in enumerate(cells[:count])]


def short(seed: int) -> Iterator[Round]:
    """Each victim and signal once, all stages among them; the supervisor's death last, since it ends the server."""
    pairs = [pair for pair in product(VICTIMS, SIGNALS) if pair != ("supervisor", "SIGKILL")]
    stages = list(STAGES)
    for number, (victim, signal) in enumerate([*pairs, ("supervisor", "SIGKILL")]):
        stage = stages[(number * 5 + seed) % len(stages)]  # 5 and 12 have no common divisor: every stage has its turn
        yield _round(number, victim, signal, stage, number % 2, seed + number)


def _round(number: int, victim: str, signal: str, stage: str, turn: int, seed: int) -> Round:
    holders = STAGES[stage]
    return Round(number, victim, signal, stage, holders[turn % len(holders)], seed)
