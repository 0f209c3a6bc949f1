"""Tool calls in a model's text, in the style of Hermes and Qwen, found while the text arrives.

    text <tool_call>{"name": "weather", "arguments": {"city": "Bern"}}</tool_call> text

    SAYING ----<tool_call>---> OPENING --name and "arguments":--> ARGUING --value ends--> CLOSING
       ^                          |                                                          |
       |                          +---</tool_call>: parsed as a whole---+                    |
       +----------------------------------------------------------------+----</tool_call>----+

A call's name is returned as soon as it is known, and its arguments as they arrive. A call whose object has its fields
in another order is returned as a whole. Anything that turns out not to be a call is text, including its tags.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum, auto

from mmplane.frontend.body.tools import CLOSE, OPEN

HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')
CALL_CHARACTERS_MAX = 64 * 1024
"""A call that has to be parsed as a whole and is longer than this is returned as text."""


@dataclass(frozen=True)
class CallPiece:
    """A piece of the call number `index`; its first piece has the `name`."""

    index: int
    name: str | None
    arguments: str


@dataclass(frozen=True)
class Said:
    """The result of parsing some text: plain `text`, and pieces of calls."""

    text: str = ""
    calls: tuple[CallPiece, ...] = ()


class _State(Enum):
    SAYING = auto()
    OPENING = auto()
    ARGUING = auto()
    CLOSING = auto()


class ToolCallStream:
    """Separates the tool calls of one sample from its text."""

    def __init__(self) -> None:
        self._state = _State.SAYING
        self._held = ""
        """Text that cannot be classified yet."""
        self._gap = ""
        """White space before the tag that opened a call."""
        self._value = _ValueEnd()
        self.count = 0
        """Number of calls so far."""

    def push(self, text: str) -> Said:
        """Take a piece of text and return what can be classified."""
        said = ""
        calls: list[CallPiece] = []
        self._held += text
        while (found := self._step()) is not None:
            said += found.text
            calls += found.calls
        return Said(said, tuple(calls))

    def finish(self) -> Said:
        """Return the rest at the end of the text. A call without its end tag counts if its object is complete."""
        held, state = self._held, self._state
        self._held, self._state = "", _State.SAYING
        if state is _State.SAYING:
            return Said(held.rstrip() if self.count else held)
        if state is _State.OPENING:
            return self._whole(held, "")
        return Said()

    def _step(self) -> Said | None:
        """Make one transition, or as much of a state as can be decided; None if more text is needed."""
        match self._state:
            case _State.SAYING:
                return self._saying()
            case _State.OPENING:
                return self._opening()
            case _State.ARGUING:
                return self._arguing()
            case _State.CLOSING:
                return self._closing()

    def _saying(self) -> Said | None:
        before, found, after = self._held.partition(OPEN)
        if found:
            said = before.rstrip()
            self._held, self._gap, self._state = after, before[len(said) :], _State.OPENING
            return Said(self._trimmed(said))
        decided = self._held[: len(self._held) - _undecided(self._held)]
        if not decided.strip():  # white space around calls is dropped
            return None
        self._held = self._held[len(decided) :]
        return Said(self._trimmed(decided))

    def _trimmed(self, text: str) -> str:
        return text.lstrip() if self.count else text

    def _opening(self) -> Said | None:
        if head := HEAD.match(self._held):
            self._held, self._state, self._value = self._held[head.end() :], _State.ARGUING, _ValueEnd()
            return Said(calls=(self._next(json.loads(head.group(1)), ""),))
        before, found, after = self._held.partition(CLOSE)
        if found:
            self._held, self._state = after, _State.SAYING
            return self._whole(before, CLOSE)
        if len(self._held) > CALL_CHARACTERS_MAX:
            text, self._held, self._state = f"{self._gap}{OPEN}{self._held}", "", _State.SAYING
            return Said(text)
        return None

    def _arguing(self) -> Said | None:
        if not self._held:
            return None
        length, ended = self._value.feed(self._held)
        piece, self._held = self._held[:length], self._held[length:]
        if ended:
            self._state = _State.CLOSING
        return Said(calls=(CallPiece(self.count - 1, None, piece),))

    def _closing(self) -> Said | None:
        _, found, after = self._held.partition(CLOSE)
        if not found:
            self._held = self._held[-len(CLOSE) :]
            return None
        self._held, self._state = after, _State.SAYING
        return Said()

    def _whole(self, text: str, end: str) -> Said:
        otherwise = Said(f"{self._gap}{OPEN}{text}{end}")
        try:
            call = json.loads(text)
            name, arguments = call["name"], call.get("arguments", call.get("parameters", {}))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return otherwise
        if not isinstance(name, str):
            return otherwise
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        return Said(calls=(self._next(name, written),))

    def _next(self, name: str, arguments: str) -> CallPiece:
        self.count += 1
        return CallPiece(self.count - 1, name, arguments)


class _ValueEnd:
    """Finds the end of one JSON object in a stream of characters."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._escaped = False

    def feed(self, text: str) -> tuple[int, bool]:
        """Return how many of the characters belong to the object, and whether it ends with the last of them."""
        for at, character in enumerate(text, 1):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped, self._in_string = character == "\\", character != '"'
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return at, True
        return len(text), False


def _undecided(text: str) -> int:
    """Count the last characters that could still belong to a call: a prefix of its tag, and white space before it."""
    tag = next((length for length in range(len(OPEN) - 1, 0, -1) if text.endswith(OPEN[:length])), 0)
    before = text[: len(text) - tag]
    return tag + len(before) - len(before.rstrip())
