"""OpenAI's objects of one text completion: in one piece, or as the events of a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from mmplane.frontend.body.completion import CompletionRequest
from mmplane.frontend.chat.chat import Answer, Chat, usage_of
from mmplane.frontend.chat.objects import Form, Head, last, traced, usage_so_far
from mmplane.frontend.chat.pieces import Piece

KIND = "text_completion"


async def whole(chat: Chat, answers: Sequence[Answer], head: Head) -> bytes:
    """Return the completion once everything has arrived: the samples of each prompt in turn."""
    choices: list[dict[str, Any]] = []
    for at, answer in enumerate(answers):
        texts = [_Text(chat, answer, at, sample) for sample in range(answer.request.samples)]
        said: list[list[dict[str, Any]]] = [[text.begin()] for text in texts]
        async for piece in chat.pieces(answer):
            said[piece.sample].append(texts[piece.sample].go_on(piece))
        choices += map(_joined, said)
    completion = head.object(KIND, choices=choices, usage=usage_of(answers))
    return msgspec.json.encode(completion | traced(answers))


async def events(chat: Chat, answers: Sequence[Answer], head: Head) -> AsyncIterator[bytes]:
    """Yield the stream's events: the first prompt's samples as they arrive, then the next prompt's."""

    def event(choice: dict[str, Any]) -> bytes:
        return msgspec.json.encode(head.object(KIND, choices=[choice], **usage_so_far(answers)))

    for at, answer in enumerate(answers):
        texts = [_Text(chat, answer, at, sample) for sample in range(answer.request.samples)]
        for text in texts:
            if (begin := text.begin())["text"]:
                yield event(begin)
        async for piece in chat.pieces(answer):
            yield event(texts[piece.sample].go_on(piece))
    for closing in last(answers, head, KIND):
        yield closing


TEXT = Form("text", "cmpl", whole, events)


class _Text:
    """Yield one sample of the prompt number `at`: one choice per piece."""

    def __init__(self, chat: Chat, answer: Answer, at: int, sample: int) -> None:
        request = answer.request
        assert isinstance(request, CompletionRequest)
        self._index = at * request.samples + sample
        self._logprobs = request.logprobs
        self._before = chat.text_of(request.prompts[at]) if request.echo else ""
        self._offset = 0
        """Characters of the tokens so far."""

    def begin(self) -> dict[str, Any]:
        """The text before the answer: empty, or the echoed prompt."""
        return self._choice(self._before, None, [])

    def go_on(self, piece: Piece) -> dict[str, Any]:
        """Add another piece."""
        return self._choice(piece.text, piece.reason, piece.logprobs)

    def _choice(self, text: str, reason: str | None, tokens: Sequence[dict[str, Any]]) -> dict[str, Any]:
        logprobs = None if self._logprobs is None else self._written(tokens)
        return {"index": self._index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _written(self, tokens: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
        """OpenAI's older form: one object per token has the most likely tokens and the sampled one."""
        offsets = []
        for each in tokens:
            offsets.append(self._offset)
            self._offset += len(each["token"])
        return {
            "text_offset": offsets,
            "tokens": [each["token"] for each in tokens],
            "token_logprobs": [each["logprob"] for each in tokens],
            "top_logprobs": [
                {likely["token"]: likely["logprob"] for likely in (*each["top_logprobs"], each)} for each in tokens
            ],
        }


def _joined(pieces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join all pieces into one choice."""
    joined = pieces[-1] | {"text": "".join(piece["text"] for piece in pieces)}
    if joined["logprobs"] is not None:
        joined["logprobs"] = {
            name: [each for piece in pieces for each in piece["logprobs"][name]] for name in joined["logprobs"]
        }
    return joined
