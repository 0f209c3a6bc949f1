"""Messages to token ids: the checkpoint's own chat template, then each placeholder replaced by its item's tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers.processing_utils import ProcessorMixin

from mmplane.core.errors import bad_request
from mmplane.core.records import Layout
from mmplane.frontend.schema import AnyPart, ChatRequest, TextPart

Ids = npt.NDArray[np.int32]
Runs = tuple[tuple[int, int], ...]


class Prompt:
    """A tokenised prompt. `placeholders[i]` are the (start, length) runs that item i's embeddings replace."""

    def __init__(self, ids: Ids, placeholders: tuple[Runs, ...]) -> None:
        self.ids = ids
        self.placeholders = placeholders

    @property
    def image_tokens(self) -> int:
        """How many tokens of the prompt stand for images."""
        return sum(length for runs in self.placeholders for _, length in runs)


def chat_template_of(tokenizer: Any, model_folder: str) -> str:
    """The checkpoint's chat template, from its tokenizer or its processor. Raises ValueError when it has none."""
    template = tokenizer.chat_template or ProcessorMixin.get_processor_dict(model_folder)[0].get("chat_template")
    if not isinstance(template, str):
        raise ValueError("this checkpoint has no chat template")
    return template


def render(request: ChatRequest, tokenizer: Any, chat_template: str) -> Ids:
    """The prompt's ids before expansion: one placeholder per image.

    Special tokens that a user *writes* stay text (`sanitize_control_tokens`): else a message could close its own turn,
    or ask for an image that nobody sent. Raises RequestError (400) when the template does not take the conversation.
    """
    conversation: list[dict[str, Any]] = []
    for message in request.messages:
        role = type(message).__struct_config__.tag
        content: Any = message.content
        if not isinstance(content, str):
            content = [_part(part) for part in _whole_tokens(content, _control_tokens(tokenizer))]
        conversation.append({"role": "system" if role == "developer" else role, "content": content})
    try:
        encoded = tokenizer.apply_chat_template(
            conversation,
            chat_template=chat_template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            sanitize_control_tokens=True,
        )
    except Exception:  # noqa: BLE001 - a template raises what it likes
        raise bad_request("invalid_messages", "the model's chat template does not take these messages") from None
    return np.asarray(encoded, dtype=np.int32)


def expand(ids: Ids, layouts: Sequence[Layout], *, placeholder_id: int, image_token: int) -> Prompt:
    """Replace the i-th placeholder by the i-th layout's tokens. Raises RequestError (400) when the counts differ."""
    at = np.flatnonzero(ids == placeholder_id)
    if len(at) != len(layouts):
        raise bad_request("invalid_messages", "the model's chat template does not take images in these messages")
    pieces: list[Ids] = []
    placeholders: list[Runs] = []
    end = begin = 0
    for position, layout in zip(at, layouts, strict=True):
        pieces.append(ids[begin:position])
        begin = int(position) + 1
        end += len(pieces[-1])
        runs = []
        for token, count in layout.expansion:
            pieces.append(np.full(count, token, dtype=np.int32))
            if token == image_token:
                runs.append((end, count))
            end += count
        placeholders.append(tuple(runs))
    pieces.append(ids[begin:])
    return Prompt(np.concatenate(pieces) if len(pieces) > 1 else ids, tuple(placeholders))


@cache
def _control_tokens(tokenizer: Any) -> tuple[str, ...]:
    return tuple(token.content for token in tokenizer.added_tokens_decoder.values())


def _whole_tokens(parts: list[AnyPart], control_tokens: tuple[str, ...]) -> Iterator[AnyPart]:
    """The parts, with neighbouring texts as one where the template would else put a special token together of them."""
    for is_text, run in groupby(parts, key=lambda part: isinstance(part, TextPart)):
        run_parts = list(run)
        if is_text:
            texts = [part.text for part in run_parts if isinstance(part, TextPart)]
            whole = "".join(texts)
            if any(whole.count(token) > sum(text.count(token) for text in texts) for token in control_tokens):
                run_parts = [TextPart(whole)]
        yield from run_parts


def _part(part: AnyPart) -> dict[str, str]:
    return {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"}
