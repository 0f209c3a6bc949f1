"""OpenAI's objects of one chat completion: in one piece, or as the events of a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from mmplane.core.parsing import Kind
from mmplane.frontend.body.request import Request
from mmplane.frontend.chat.chat import Answer, Chat, usage_of
from mmplane.frontend.chat.pieces import Piece
from mmplane.frontend.chat.tool_calls import CallPiece


class Head:
    """The fields that every object of one completion repeats."""

    def __init__(self, prefix: str, name: str, model: str, created_s: int) -> None:
        """`name` is the id of the request in all objects."""
        self.id = f"{prefix}-{name}"
        self.name = name
        self.created_s = created_s
        self.model = model

    def object(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Return one of the objects."""
        return {"id": self.id, "object": kind, "created": self.created_s, "model": self.model, **fields}

    def call(self, sample: int, call: CallPiece) -> dict[str, Any]:
        """A tool call, or a piece of one: only its first piece has its name and id."""
        if call.name is None:
            return {"function": {"arguments": call.arguments}}
        id_ = f"call_{self.name}_{sample}_{call.index}"
        return {"id": id_, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


@dataclass(frozen=True)
class Form:
    """Formats answers: `whole` at the end, or the `events` of a stream as it arrives."""

    kind: Kind
    prefix: str
    whole: Callable[[Chat, Sequence[Answer], Head], Awaitable[bytes]]
    events: Callable[[Chat, Sequence[Answer], Head], AsyncIterator[bytes]]


async def whole(chat: Chat, answers: Sequence[Answer], head: Head) -> bytes:
    """Return the completion once everything has arrived. A chat has one answer."""
    (answer,) = answers
    choices = [Choice(sample, head) for sample in range(answer.request.samples)]
    async for piece in chat.pieces(answer):
        choices[piece.sample].add(piece)
    written = [choice.object(answer.request) for choice in choices]
    completion = head.object("chat.completion", choices=written, usage=usage_of(answers))
    return msgspec.json.encode(completion | traced(answers))


class Choice:
    """One complete sample."""

    def __init__(self, sample: int, head: Head) -> None:
        self._sample = sample
        self._head = head
        self._text = ""
        self._reason = ""
        self._calls: list[CallPiece] = []
        self._logprobs: list[dict[str, Any]] = []

    def add(self, piece: Piece) -> None:
        """Add another piece."""
        self._text += piece.text
        self._reason = piece.reason or ""
        self._logprobs += piece.logprobs
        for call in piece.calls:
            if call.name is not None:
                self._calls.append(call)
            else:
                begun = self._calls[call.index]
                self._calls[call.index] = replace(begun, arguments=begun.arguments + call.arguments)

    def object(self, request: Request) -> dict[str, Any]:
        """Return it in OpenAI's format."""
        message: dict[str, Any] = {"role": "assistant", "content": self._text, "refusal": None}
        if self._calls:
            message["content"] = self._text or None
            message["tool_calls"] = [self._head.call(self._sample, call) for call in self._calls]
        return {
            "index": self._sample,
            "message": message,
            "finish_reason": self._reason,
            "logprobs": _logprobs(self._logprobs) if request.likely_tokens is not None else None,
        }


def _logprobs(tokens: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"content": list(tokens), "refusal": None}


async def events(chat: Chat, answers: Sequence[Answer], head: Head) -> AsyncIterator[bytes]:
    """Yield the stream's events in OpenAI's order: role, text, finish reason, and usage if requested."""
    kind = "chat.completion.chunk"
    (answer,) = answers

    def choice(sample: int, delta: dict[str, Any], reason: str | None, logprobs: Any = None) -> bytes:
        parts = [{"index": sample, "delta": delta, "finish_reason": reason, "logprobs": logprobs}]
        return msgspec.json.encode(head.object(kind, choices=parts, **usage_so_far(answers)))

    for sample in range(answer.request.samples):
        yield choice(sample, {"role": "assistant", "content": ""}, None)
    async for piece in chat.pieces(answer):
        logprobs = _logprobs(piece.logprobs) if piece.logprobs else None
        if piece.text or logprobs:
            yield choice(piece.sample, {"content": piece.text}, None, logprobs)
        if piece.calls:
            calls = [{"index": call.index, **head.call(piece.sample, call)} for call in piece.calls]
            yield choice(piece.sample, {"tool_calls": calls}, None)
        if piece.reason:
            yield choice(piece.sample, {}, piece.reason)
    for event in last(answers, head, kind):
        yield event


CHAT = Form("chat", "chatcmpl", whole, events)


def usage_so_far(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return the usage for an event, if every event should have it."""
    options = answers[0].request.stream_options
    return {"usage": usage_of(answers)} if options and options.include_usage and options.continuous_usage_stats else {}


def last(answers: Sequence[Answer], head: Head, kind: str) -> Iterator[bytes]:
    """Yield the events after the last choice."""
    trace, options = traced(answers), answers[0].request.stream_options
    wants_usage = options is not None and options.include_usage
    if trace or wants_usage:
        usage = usage_of(answers) if wants_usage else None
        yield msgspec.json.encode(head.object(kind, choices=[], usage=usage) | trace)
    yield b"[DONE]"


def traced(answers: Sequence[Answer]) -> dict[str, Any]:
    """mmplane's own part of an answer. The trace is that of the first prompt."""
    asked = answers[0].request.mmplane
    return {"mmplane": {"trace": answers[0].trace()}} if asked is not None and asked.trace else {}
