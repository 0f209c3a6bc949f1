"""OpenAI's objects of one completion: in one piece, or as the events of a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from mmplane.frontend.body.schema import ChatRequest
from mmplane.frontend.chat.chat import Answer, Chat
from mmplane.frontend.chat.pieces import Piece
from mmplane.frontend.chat.tool_calls import CallPiece


class Head:
    """The fields that every object of one completion repeats."""

    def __init__(self, request: ChatRequest, answer: Answer, created_s: int) -> None:
        self.id = f"chatcmpl-{answer.generation.request_id:x}"
        self.created_s = created_s
        self.model = request.model

    def object(self, kind: str, **fields: Any) -> dict[str, Any]:
        """One of them."""
        return {"id": self.id, "object": kind, "created": self.created_s, "model": self.model, **fields}

    def call(self, sample: int, call: CallPiece) -> dict[str, Any]:
        """A tool call, or what has come of one: only its first piece has its name and id."""
        if call.name is None:
            return {"function": {"arguments": call.arguments}}
        id_ = f"call_{self.id.removeprefix('chatcmpl-')}_{sample}_{call.index}"
        return {"id": id_, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


async def whole(chat: Chat, answer: Answer, head: Head) -> bytes:
    """The completion, when all of it has been said."""
    choices = [Choice(sample, head) for sample in range(answer.request.n or 1)]
    async for piece in chat.pieces(answer):
        choices[piece.sample].add(piece)
    written = [choice.object(answer.request) for choice in choices]
    completion = head.object("chat.completion", choices=written, usage=answer.usage())
    return msgspec.json.encode(completion | _traced(answer))


class Choice:
    """One sample, put together."""

    def __init__(self, sample: int, head: Head) -> None:
        self._sample = sample
        self._head = head
        self._text = ""
        self._reason = ""
        self._calls: list[CallPiece] = []
        self._logprobs: list[dict[str, Any]] = []

    def add(self, piece: Piece) -> None:
        """Another piece of it."""
        self._text += piece.text
        self._reason = piece.reason or ""
        self._logprobs += piece.logprobs
        for call in piece.calls:
            if call.name is not None:
                self._calls.append(call)
            else:
                begun = self._calls[call.index]
                self._calls[call.index] = replace(begun, arguments=begun.arguments + call.arguments)

    def object(self, request: ChatRequest) -> dict[str, Any]:
        """As OpenAI writes it."""
        message: dict[str, Any] = {"role": "assistant", "content": self._text, "refusal": None}
        if self._calls:
            message["content"] = self._text or None
            message["tool_calls"] = [self._head.call(self._sample, call) for call in self._calls]
        return {
            "index": self._sample,
            "message": message,
            "finish_reason": self._reason,
            "logprobs": _logprobs(self._logprobs) if request.logprobs else None,
        }


def _logprobs(tokens: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"content": list(tokens), "refusal": None}


async def events(chat: Chat, answer: Answer, head: Head) -> AsyncIterator[bytes]:
    """The stream's events, as OpenAI sends them: role first, then text, then a reason, then usage when asked."""
    kind = "chat.completion.chunk"

    def choice(sample: int, delta: dict[str, Any], reason: str | None, logprobs: Any = None) -> bytes:
        parts = [{"index": sample, "delta": delta, "finish_reason": reason, "logprobs": logprobs}]
        return msgspec.json.encode(head.object(kind, choices=parts))

    for sample in range(answer.request.n or 1):
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
    traced = _traced(answer)
    options = answer.request.stream_options
    if traced or (options is not None and options.include_usage):
        usage = answer.usage() if options is not None and options.include_usage else None
        yield msgspec.json.encode(head.object(kind, choices=[], usage=usage) | traced)
    yield b"[DONE]"


def _traced(answer: Answer) -> dict[str, Any]:
    asked = answer.request.mmplane is not None and answer.request.mmplane.trace
    return {"mmplane": {"trace": answer.trace()}} if asked else {}
