"""Messages to token ids: the checkpoint's own chat template, then each placeholder replaced by its item's tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers.processing_utils import ProcessorMixin

from mmplane.core.errors import bad_request
from mmplane.core.records import Modality, Recipe
from mmplane.frontend.request.schema import AnyPart, ChatRequest, MediaPart, TextPart

Ids = npt.NDArray[np.int32]
Runs = tuple[tuple[int, int], ...]


class Prompt:
    """A tokenised prompt. `placeholders[i]` are the (start, length) runs that item i's embeddings replace."""

    def __init__(self, ids: Ids, placeholders: tuple[Runs, ...], modalities: tuple[Modality, ...]) -> None:
        self.ids = ids
        self.placeholders = placeholders
        self.modalities = modalities

    def tokens_of(self, modality: Modality) -> int:
        """How many tokens of the prompt stand for items of a modality."""
        of_items = zip(self.placeholders, self.modalities, strict=True)
        return sum(length for runs, own in of_items if own == modality for _, length in runs)


def chat_template_of(tokenizer: Any, model_folder: str) -> str:
    """The checkpoint's chat template, from its tokenizer or its processor. Raises ValueError when it has none."""
    template = tokenizer.chat_template or ProcessorMixin.get_processor_dict(model_folder)[0].get("chat_template")
    if not isinstance(template, str):
        raise ValueError("this checkpoint has no chat template")
    return template


def render(request: ChatRequest, tokenizer: Any, chat_template: str) -> Ids:
    """The prompt's ids before expansion: one placeholder per item.

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


@dataclass(frozen=True)
class Marks:
    """What a modality is in a prompt: the token that stands for one item, and the one that its embeddings replace."""

    placeholder_id: int
    embedded_id: int


def expand(ids: Ids, recipes: Sequence[Recipe], marks: Mapping[Modality, Marks]) -> Prompt:
    """Replace the i-th placeholder by the i-th item's tokens. Raises RequestError (400) when they do not agree."""
    of_placeholder = {mark.placeholder_id: modality for modality, mark in marks.items()}
    at = np.flatnonzero(np.isin(ids, list(of_placeholder)))
    if [of_placeholder[int(ids[position])] for position in at] != [recipe.modality for recipe in recipes]:
        raise bad_request("invalid_messages", "the model's chat template does not take these items in these messages")
    pieces: list[Ids] = []
    placeholders: list[Runs] = []
    end = begin = 0
    for position, recipe in zip(at, recipes, strict=True):
        pieces.append(ids[begin:position])
        begin = int(position) + 1
        end += len(pieces[-1])
        runs = []
        for token, count in recipe.layout.expansion:
            pieces.append(np.full(count, token, dtype=np.int32))
            if token == marks[recipe.modality].embedded_id:
                runs.append((end, count))
            end += count
        placeholders.append(tuple(runs))
    pieces.append(ids[begin:])
    whole = np.concatenate(pieces) if len(pieces) > 1 else ids
    return Prompt(whole, tuple(placeholders), tuple(recipe.modality for recipe in recipes))


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
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    assert isinstance(part, MediaPart)
    return {"type": part.modality}
