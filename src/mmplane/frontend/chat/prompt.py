"""Expands a rendered prompt: replaces each placeholder by its item's tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import msgspec
import numpy as np

from mmplane.core.errors import bad_request
from mmplane.core.records import Modality, Recipe
from mmplane.frontend.request.renderer import Ids

Runs = tuple[tuple[int, int], ...]
Piece = Ids | tuple[int, int]
"""Tokens of the template and the texts, or (token, repetitions) for an item."""
RUNS_KEPT = 256
"""Number of runs whose JSON is cached: for an item of usual size it has some kilobytes."""


class Prompt:
    """A tokenised prompt of `length` tokens, in pieces.

    `placeholders[i]` are the (start, length) runs that item i's embeddings replace. `spans[i]` is the (start, length)
    of all tokens that stand for item i.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        placeholders: tuple[Runs, ...],
        spans: Runs,
        modalities: tuple[Modality, ...],
        length: int,
    ) -> None:
        self._pieces = pieces
        self.placeholders = placeholders
        self.spans = spans
        self.modalities = modalities
        self.length = length

    @cached_property
    def ids(self) -> Ids:
        """All tokens, int32."""
        return np.concatenate(
            [np.full(piece[1], piece[0], np.int32) if isinstance(piece, tuple) else piece for piece in self._pieces]
        )

    def json(self) -> bytes:
        """The ids as a JSON array; runs of items are not written number by number."""
        written = [
            _run(*piece) if isinstance(piece, tuple) else msgspec.json.encode(piece.tolist())[1:-1]
            for piece in self._pieces
        ]
        return b"[" + b",".join(filter(None, written)) + b"]"

    def tokens_of(self, modality: Modality) -> int:
        """Number of tokens in the prompt that stand for items of a modality."""
        of_items = zip(self.placeholders, self.modalities, strict=True)
        return sum(length for runs, own in of_items if own == modality for _, length in runs)


@lru_cache(RUNS_KEPT)
def _run(token: int, count: int) -> bytes:
    return b",".join([b"%d" % token] * count)


@dataclass(frozen=True)
class Marks:
    """A modality's tokens in a prompt: the one that stands for an item, and the one that its embeddings replace."""

    placeholder_id: int
    embedded_id: int


def expand(ids: Ids, recipes: Sequence[Recipe], marks: Mapping[Modality, Marks]) -> Prompt:
    """Replace the i-th placeholder by the i-th item's tokens. Raises RequestError (400) if their numbers differ."""
    of_placeholder = {mark.placeholder_id: modality for modality, mark in marks.items()}
    found = np.zeros(len(ids), bool)
    for placeholder in of_placeholder:
        found |= ids == placeholder
    if not recipes and (found.any() or any((ids == mark.embedded_id).any() for mark in marks.values())):
        raise bad_request("invalid_messages", "the prompt has tokens that stand for media, and there are none")
    at = np.flatnonzero(found)
    if [of_placeholder[int(ids[position])] for position in at] != [recipe.modality for recipe in recipes]:
        raise bad_request("invalid_messages", "the model's chat template does not take these items in these messages")
    pieces: list[Piece] = []
    placeholders: list[Runs] = []
    spans = []
    end = begin = 0
    for position, recipe in zip(at.tolist(), recipes, strict=True):
        pieces.append(ids[begin:position])
        end += position - begin
        begin = position + 1
        runs, start = [], end
        for token, count in recipe.layout.expansion:
            pieces.append((token, count))
            if token == marks[recipe.modality].embedded_id:
                runs.append((end, count))
            end += count
        placeholders.append(tuple(runs))
        spans.append((start, end - start))
    pieces.append(ids[begin:])
    end += len(ids) - begin
    return Prompt(pieces, tuple(placeholders), tuple(spans), tuple(recipe.modality for recipe in recipes), end)
