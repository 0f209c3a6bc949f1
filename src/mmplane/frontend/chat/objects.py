"""OpenAI's objects of one completion: in one piece, or as the events of a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from mmplane.frontend.chat.chat import Answer, Chat
from mmplane.frontend.request.schema import ChatRequest


class Head:
    """The fields that every object of one completion repeats."""

    def __init__(self, request: ChatRequest, answer: Answer, created_s: int) -> None:
        self.id = f"chatcmpl-{answer.generation.request_id:x}"
        self.created_s = created_s
        self.model = request.model

    def object(self, kind: str, **fields: Any) -> dict[str, Any]:
        """One of them."""
        return {"id": self.id, "object": kind, "created": self.created_s, "model": self.model, **fields}


async def whole(chat: Chat, answer: Answer, head: Head) -> bytes:
    """The completion, when all of it has been said."""
    samples = answer.request.n or 1
    texts = [""] * samples
    reasons = [""] * samples
    async for piece in chat.pieces(answer):
        texts[piece.sample] += piece.text
        reasons[piece.sample] = piece.reason or ""
    choices = [
        {
            "index": sample,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "finish_reason": reason,
            "logprobs": None,
        }
        for sample, (text, reason) in enumerate(zip(texts, reasons, strict=True))
    ]
    completion = head.object("chat.completion", choices=choices, usage=answer.usage())
    return msgspec.json.encode(completion | _traced(answer))


async def events(chat: Chat, answer: Answer, head: Head) -> AsyncIterator[bytes]:
    """The stream's events, as OpenAI sends them: role first, then text, then a reason, then usage when asked."""
    kind = "chat.completion.chunk"

    def choice(sample: int, delta: dict[str, str], reason: str | None) -> bytes:
        parts = [{"index": sample, "delta": delta, "finish_reason": reason, "logprobs": None}]
        return msgspec.json.encode(head.object(kind, choices=parts))

    for sample in range(answer.request.n or 1):
        yield choice(sample, {"role": "assistant", "content": ""}, None)
    async for piece in chat.pieces(answer):
        if piece.text:
            yield choice(piece.sample, {"content": piece.text}, None)
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
