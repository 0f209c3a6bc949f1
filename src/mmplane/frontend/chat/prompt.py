"""A rendered prompt with each placeholder replaced by its item's tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmplane.core.errors import bad_request
from mmplane.core.records import Modality, Recipe
from mmplane.frontend.request.renderer import Ids

Runs = tuple[tuple[int, int], ...]


class Prompt:
    """A tokenised prompt. `placeholders[i]` are the (start, length) runs that item i's embeddings replace.

    `spans[i]` is the (start, length) of all tokens that stand for item i.
    """

    def __init__(self, ids: Ids, placeholders: tuple[Runs, ...], spans: Runs, modalities: tuple[Modality, ...]) -> None:
        self.ids = ids
        self.placeholders = placeholders
        self.spans = spans
        self.modalities = modalities

    def tokens_of(self, modality: Modality) -> int:
        """How many tokens of the prompt stand for items of a modality."""
        of_items = zip(self.placeholders, self.modalities, strict=True)
        return sum(length for runs, own in of_items if own == modality for _, length in runs)


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
    spans = []
    end = begin = 0
    for position, recipe in zip(at, recipes, strict=True):
        pieces.append(ids[begin:position])
        begin = int(position) + 1
        end += len(pieces[-1])
        runs, start = [], end
        for token, count in recipe.layout.expansion:
            pieces.append(np.full(count, token, dtype=np.int32))
            if token == marks[recipe.modality].embedded_id:
                runs.append((end, count))
            end += count
        placeholders.append(tuple(runs))
        spans.append((start, end - start))
    pieces.append(ids[begin:])
    whole = np.concatenate(pieces) if len(pieces) > 1 else ids
    return Prompt(whole, tuple(placeholders), tuple(spans), tuple(recipe.modality for recipe in recipes))
