"""Tokenises a prompt whose pictures are long runs of one placeholder without tokenising the runs.

transformers' processors write a picture into the prompt as thousands of placeholders. They tokenise all of them, and
turn lists of Python integers into tensors: 4 ms for 1,600 tokens. A placeholder is a special token, which the tokenizer
cuts out before it looks at the text around it. So the text around a run has the same tokens beside one placeholder, and
NumPy repeats that one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import BatchEncoding

if TYPE_CHECKING:
    from mmplane.engines.sglang.processor.maker import Maker

ARGUMENTS = frozenset({"padding", "return_tensors", "add_special_tokens"})
"""With these arguments a token's place in the prompt does not matter."""
PER_TOKEN = frozenset({"input_ids", "attention_mask"})


def shorten(processor: Any, maker: Maker) -> None:
    """Give the processor's tokenizer a call that does this after the image processor gave features of the sidecar's.

    Nothing changes if its placeholder for pictures is not a special token that stands for itself alone.
    """
    tokenizer, placeholder = processor.tokenizer, getattr(processor, "image_token_id", -1)
    added: Any = getattr(tokenizer, "added_tokens_decoder", {}).get(placeholder)
    if not getattr(tokenizer, "is_fast", False) or added is None or not added.special:
        return
    if added.normalized or added.lstrip or added.rstrip or added.single_word:
        return
    word: str = added.content
    runs = re.compile(f"(?:{re.escape(word)})+")
    own = type(tokenizer)

    class Shortened(own):  # type: ignore[misc, valid-type]
        """The same tokenizer, for everything that asks what it is."""

        def __call__(self, text: Any = None, *args: Any, **kwargs: Any) -> Any:
            if not maker.has_given() or args or not is_plain(text, kwargs):
                return super().__call__(text, *args, **kwargs)
            lists = {name: each for name, each in kwargs.items() if name != "return_tensors"}
            short = super().__call__([runs.sub(lambda _: word, text[0])], **lists)
            lengths = [len(run[0]) // len(word) for run in runs.finditer(text[0])]
            made = repeated(short, placeholder, lengths)
            return super().__call__(text, **kwargs) if made is None else made

    Shortened.__name__ = own.__name__
    tokenizer.__class__ = Shortened


def is_plain(text: Any, arguments: Mapping[str, Any]) -> bool:
    """Whether one prompt is to be tokenised, whole, into torch tensors."""
    return (
        isinstance(text, list)
        and len(text) == 1
        and isinstance(text[0], str)
        and arguments.get("return_tensors") == "pt"
        and arguments.keys() <= ARGUMENTS
    )


def repeated(short: Mapping[str, Any], placeholder: int, lengths: list[int]) -> BatchEncoding | None:
    """Return tensors (1, tokens), int64, in which each placeholder is repeated; None if there are others than asked."""
    ids = np.asarray(short["input_ids"][0])
    places = ids == placeholder
    if not short.keys() <= PER_TOKEN or places.sum() != len(lengths):
        return None
    times = np.ones(len(ids), np.int64)
    times[places] = lengths
    return BatchEncoding({name: torch.from_numpy(np.repeat(each[0], times))[None] for name, each in short.items()})
