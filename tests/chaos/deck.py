"""Pictures of numbers and what is right to say about them, which the built-in model reads off them.

A stamp makes a file that nobody has sent of each picture, with the same pixels: so one answer that was found right
alone is the right one however often the picture comes, and an answer about another request's picture is a wrong one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pictures import part, text

from mmplane.bench.inputs.stamps import stamped
from mmplane.demo import LOOKS, QUESTION, draw

QUESTION_OF_THREE = "Which numbers are these?"
TOKENS_MAX = 24
LONG_BYTES = 900_000
"""Of a stamp that makes the body long enough for the parser."""
KINDS = {"fresh": 5, "stream": 2, "three": 2, "long": 1, "known": 2}
"""What is asked, and how often: a new picture, one whose answer is streamed, three, one in a long body, a known one."""
RIGHT_SHARE = 0.9
"""Of pictures read right alone; the others are left out."""

Card = tuple[str, tuple[bytes, ...]]
"""What is right to say, and the picture, or the three."""


@dataclass(frozen=True)
class Question:
    """A request's body and the right answer."""

    kind: str
    body: dict[str, Any]
    right: str


class Deck:
    """Draws questions about its cards, each new unless it says otherwise."""

    def __init__(self, cards: Sequence[Card], seed: int) -> None:
        self._cards = {count: [card for card in cards if len(card[1]) == count] for count in (1, 3)}
        self._random = random.Random(seed)
        self._seed = seed
        self._count = 0

    def draw(self, kind: str | None = None) -> Question:
        """A question of that kind, or of any."""
        kind = kind or self._random.choices(list(KINDS), weights=list(KINDS.values()))[0]
        right, pictures = self._random.choice(self._cards[3 if kind == "three" else 1])
        sent = [picture if kind == "known" else self._stamped(picture, kind) for picture in pictures]
        content = [*map(part, sent), text(QUESTION_OF_THREE if kind == "three" else QUESTION)]
        body = {
            "model": "tiny",
            "max_tokens": TOKENS_MAX,
            "temperature": 0,
            "stream": kind == "stream",
            "messages": [{"role": "user", "content": content}],
        }
        return Question(kind, body, right)

    def _stamped(self, picture: bytes, kind: str) -> bytes:
        self._count += 1
        note = f"{self._seed}/{self._count}".encode()
        return stamped(picture, note.ljust(LONG_BYTES) if kind == "long" else note)


def cards(count: int, ask: Callable[[dict[str, Any]], str]) -> list[Card]:
    """Pictures, and threes of them, that are read right when nothing else is asked.

    Raises AssertionError when too many are not.
    """
    numbers = [f"{number}" for number in random.Random(count).sample(range(1000, 10000), count)]
    drawn = [draw(number, *LOOKS[at % len(LOOKS)]) for at, number in enumerate(numbers)]
    ones = [(number, (picture,)) for number, picture in zip(numbers, drawn, strict=True)]
    threes = [(", ".join(numbers[at : at + 3]), tuple(drawn[at : at + 3])) for at in range(0, count - 2, 3)]
    found = [card for card in ones if ask(Deck([card], 0).draw("known").body) == card[0]]
    found += [card for card in threes if ask(Deck([card], 0).draw("three").body) == card[0]]
    assert len(found) >= RIGHT_SHARE * len(ones + threes), f"{len(found)} of {len(ones + threes)} are read right"
    return found
