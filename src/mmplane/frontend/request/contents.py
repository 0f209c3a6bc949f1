"""Finds the form in which a chat template accepts the content of messages: a string, parts, or either.

Templates are programs. One that loops over parts silently drops a string, and one that concatenates strings raises on
parts. So each role is rendered once with a string and once with parts, and messages are converted to the form whose
text arrives in the prompt. If a template accepts both, vLLM uses parts, which `parts_first` does.
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
"""Renders turns to text with the template. Raises whatever the template raises."""

MARKS = ("mmplaneone", "mmplanetwo")
"""Two texts that no template writes."""
DUMPED = "mmplanekey"
"""A key of each tested part: it arrives in the prompt if a template writes a list as it is."""
SEPARATOR = "\n"
"""Separator of texts that are joined, as in vLLM."""


@dataclass(frozen=True)
class Form:
    """Which forms of one role's messages arrive in a prompt: strings, one text part, several neighbouring text parts.

    If the template raises in each form, the form is `unknown`, and messages of this role are left as they are.
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
        """Return the same content in a form that the template shows. Raises RequestError (400) if there is none."""
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
    """The form of each role, determined when it is first needed."""

    def __init__(self, render: Render, *, parts_first: bool = False) -> None:
        self._render = render
        self._parts_first = parts_first
        self._found: dict[str, Form] = {}

    def fit(self, role: str, content: Content) -> Content:
        """Like `Form.fit`."""
        return self.of(role).fit(content, parts_first=self._parts_first)

    def of(self, role: str) -> Form:
        """Return the form of one role's messages."""
        if role not in self._found:
            self._found[role] = self._form(role)
        return self._found[role]

    def check(self) -> None:
        """Raise ValueError if users' texts do not arrive in the prompt in any form."""
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
        """Whether the marks arrive in the prompt; None if the template raises."""
        with suppress(Exception):  # a template may raise anything
            text = self._render(self._conversation({"role": role, "content": content}))
            return DUMPED not in text and all(mark in text for mark in marks)
        return None

    def _conversation(self, turn: Turn) -> list[Turn]:
        """A conversation in which such a turn is usual, because templates check the order of roles."""
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
