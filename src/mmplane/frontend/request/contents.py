"""The form in which a chat template shows what a message says: a string, parts, or either.

Templates are programs. One that loops over parts drops a string without an error, and one that concatenates strings
raises on parts. So each role is rendered once with a string and once with parts, and messages are changed to the form
whose text arrives in the prompt. Of templates that take both, vLLM sees parts alone, which `parts_first` does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mmplane.core.errors import bad_request

Turn = dict[str, Any]
Content = str | list[dict[str, str]]
Render = Callable[[list[Turn]], str]
"""Turns to text, by the template. Raises what the template raises."""

MARKS = ("mmplaneone", "mmplanetwo")
"""Two texts that no template writes."""
DUMPED = "mmplanekey"
"""A key of each part that is tried: it arrives in the prompt where a template writes a list as it is."""
SEPARATOR = "\n"
"""Between texts that become one, as vLLM writes it."""


@dataclass(frozen=True)
class Form:
    """What of one role's messages arrives in a prompt: strings, one text part, several neighbouring text parts.

    A role whose messages make the template raise in each form is `unknown`: its messages are left as they are.
    """

    strings: bool
    part: bool
    parts: bool
    unknown: bool = False

    @property
    def shows(self) -> bool:
        """Whether any form works."""
        return self.strings or self.part

    def fit(self, content: Content, *, parts_first: bool = False) -> Content:
        """The same content in a form that the template shows. Raises RequestError (400) when there is none."""
        if self.unknown:
            return content
        if not self.shows:
            raise bad_request("invalid_messages", "the model's chat template drops messages of this role", "messages")
        if isinstance(content, str):
            return [_text(content)] if self.part and (parts_first or not self.strings) else content
        texts = [part["text"] for part in content if part["type"] == "text"]
        if len(texts) < len(content) or self.parts or (self.part and len(texts) == 1):
            return content
        whole = SEPARATOR.join(texts)
        return [_text(whole)] if self.part else whole


class Forms:
    """The form of each role, found when it is first needed."""

    def __init__(self, render: Render, *, parts_first: bool = False) -> None:
        self._render = render
        self._parts_first = parts_first
        self._found: dict[str, Form] = {}

    def fit(self, role: str, content: Content) -> Content:
        """As `Form.fit`."""
        return self.of(role).fit(content, parts_first=self._parts_first)

    def of(self, role: str) -> Form:
        """The form of one role's messages."""
        if role not in self._found:
            self._found[role] = self._form(role)
        return self._found[role]

    def check(self) -> None:
        """Raises ValueError when what users say does not arrive in the prompt in any form."""
        if not self.of("user").shows:
            raise ValueError("this checkpoint's chat template accepts a user's text neither as a string nor as parts")

    def _form(self, role: str) -> Form:
        one, two = MARKS
        tried: list[tuple[Content, tuple[str, ...]]] = [
            (one, (one,)),
            ([_text(one) | {DUMPED: ""}], (one,)),
            ([_text(one) | {DUMPED: ""}, _text(two)], (one, two)),
        ]
        strings, part, parts = (self._shows(role, content, marks) for content, marks in tried)
        return Form(bool(strings), bool(part), bool(parts), unknown=strings is part is parts is None)

    def _shows(self, role: str, content: Content, marks: tuple[str, ...]) -> bool | None:
        """Whether the marks arrive in the prompt; None when the template raises."""
        with suppress(Exception):  # a template raises what it likes
            text = self._render(self._conversation({"role": role, "content": content}))
            return DUMPED not in text and all(mark in text for mark in marks)
        return None

    def _conversation(self, turn: Turn) -> list[Turn]:
        """A conversation in which such a turn is usual: templates check the order of roles."""
        if turn["role"] == "user":
            return [turn]
        asked = {"role": "user", "content": self.fit("user", "x")}
        if turn["role"] == "assistant":
            return [asked, turn, asked]
        if turn["role"] == "tool":
            call = {"id": "callxxxx1", "type": "function", "function": {"name": "x", "arguments": {}}}
            calls = {"role": "assistant", "content": self.fit("assistant", ""), "tool_calls": [call]}
            return [asked, calls, {**turn, "name": "x", "tool_call_id": "callxxxx1"}]
        return [turn, asked]


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}
