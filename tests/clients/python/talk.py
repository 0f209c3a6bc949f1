"""What the Python clients share: what they are given, what they ask for, and how they print what came of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

TOKENS_MAX = 16
FORM_TOKENS_MAX = 160
"""Of an answer in a form: a call is 90 tokens of the built-in model."""
TOOL = "look_up"
DESCRIPTION = "What a number stands for"


class Reading(BaseModel):
    """A number that a picture shows: what the tool is given, and the form of an answer."""

    model_config = ConfigDict(extra="forbid")

    number: str = Field(description="Its digits", pattern="^[0-9]{4}$")
    sure: bool


class Turn(NamedTuple):
    """What the user says, or a tool gives: a text, and a picture as a data URI."""

    text: str
    picture: str

    def parts(self) -> list[dict[str, Any]]:
        """As OpenAI writes it."""
        return [
            {"type": "text", "text": self.text},
            {"type": "image_url", "image_url": {"url": self.picture}},
        ]

    def message(self) -> dict[str, Any]:
        """As a user's message."""
        return {"role": "user", "content": self.parts()}


def called(name: str, arguments: dict[str, Any], after: str, *, picture: bool = True) -> dict[str, Any]:
    """One round: a call as the client read it, and what the model said to the tool's result, with a picture or not."""
    return {"name": name, "arguments": arguments, "after": after, "picture": picture}


Converse = Callable[[str, list[Turn]], list[str]]
UseTool = Callable[[str, Turn, Turn], list[dict[str, Any]]]
"""Of a URL, what the user says, and the tool's result: rounds, each of two requests."""
Read = Callable[[str, Turn], list[dict[str, Any]]]
"""Of a URL and what the user says: answers in the form of `Reading`, each of one request."""


def talk(converse: Converse, use_tool: UseTool | None = None, read: Read | None = None) -> None:
    """Read `{"url": ..., "turns": [[text, picture], ...], "result": [text, picture]}`; print all answers as JSON."""
    asked = json.load(sys.stdin)
    url, turns, result = asked["url"], [Turn(*turn) for turn in asked["turns"]], Turn(*asked["result"])
    answers = converse(url, turns)
    rounds = use_tool(url, turns[0], result) if use_tool else []
    readings = read(url, turns[0]) if read else []
    print(json.dumps({"answers": answers, "rounds": rounds, "readings": readings}))
