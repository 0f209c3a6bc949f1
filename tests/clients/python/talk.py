"""What the Python clients share: they are told a URL and the turns, and print what was answered."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

TOKENS_MAX = 16


class Turn(NamedTuple):
    """What the user says: a text, and a picture as a data URI."""

    text: str
    picture: str

    def parts(self) -> list[dict[str, Any]]:
        """As OpenAI writes it."""
        return [
            {"type": "text", "text": self.text},
            {"type": "image_url", "image_url": {"url": self.picture}},
        ]


def talk(converse: Callable[[str, list[Turn]], list[str]]) -> None:
    """Read `{"url": ..., "turns": [[text, picture], ...]}` and print the answers as a JSON array."""
    asked = json.load(sys.stdin)
    print(json.dumps(converse(asked["url"], [Turn(*turn) for turn in asked["turns"]])))
