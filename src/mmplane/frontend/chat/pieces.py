"""Turns one sample's tokens into pieces of an answer: text, tool calls, log probabilities, and the finish reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmplane.core.plan import Token
from mmplane.frontend.body.request import Request
from mmplane.frontend.chat.text import TextStream
from mmplane.frontend.chat.tool_calls import CallPiece, Said, ToolCallStream

LOGPROB_MIN = -9999.0
"""OpenAI's log probability for a token that cannot occur, because JSON has no infinity."""

Decode = Callable[[list[int]], str]


@dataclass(frozen=True)
class Piece:
    """A piece of one sample; `reason` is set on the last one. `logprobs` are OpenAI's objects for its tokens."""

    sample: int
    text: str
    reason: str | None
    calls: tuple[CallPiece, ...] = ()
    logprobs: tuple[dict[str, Any], ...] = ()


class Pieces:
    """Turns one sample's tokens into pieces."""

    def __init__(self, sample: int, request: Request, decode: Decode, before: Sequence[int] = ()) -> None:
        """`before` are the last tokens of a prompt, if the answer continues it."""
        self._sample = sample
        self._decode = decode
        self._texts = TextStream(decode, request.stops, before)
        self._calls = ToolCallStream() if request.calls_tools else None
        self._chosen = request.names_tool
        self._logprobs: list[dict[str, Any]] | None = [] if request.likely_tokens is not None else None

    @property
    def stopped(self) -> bool:
        """Whether a stop text has been found; later tokens are ignored."""
        return self._texts.stopped

    def push(self, token: Token) -> Piece | None:
        """Return the text that is certain after this token, or None."""
        reason = token.reason
        text = self._texts.push(token.token) if reason != "stop" else ""
        if reason is not None:
            text += self._texts.finish()
        if self.stopped:
            reason = "stop"
        if self._logprobs is not None and token.reason != "stop":
            self._logprobs.append(self._logprob(token))
        said = self._said(text, last=reason is not None)
        if reason == "stop" and self._calls is not None and self._calls.count and not self._chosen:
            reason = "tool_calls"
        if not (said.text or said.calls or reason):
            return None
        logprobs = tuple(self._logprobs or ())
        if self._logprobs is not None:
            self._logprobs.clear()
        return Piece(self._sample, said.text, reason, said.calls, logprobs)

    def _said(self, text: str, *, last: bool) -> Said:
        if self._calls is None:
            return Said(text)
        said = self._calls.push(text)
        if not last:
            return said
        rest = self._calls.finish()
        return Said(said.text + rest.text, said.calls + rest.calls)

    def _logprob(self, token: Token) -> dict[str, Any]:
        likely = [self._named(each, logprob) for each, logprob in token.likely]
        return {**self._named(token.token, token.logprob or 0.0), "top_logprobs": likely}

    def _named(self, token: int, logprob: float) -> dict[str, Any]:
        text = self._decode([token])
        return {"token": text, "logprob": max(logprob, LOGPROB_MIN), "bytes": list(text.encode())}
