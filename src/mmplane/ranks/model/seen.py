"""Counts the tokens of a text as they come, whatever the length of the text."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

ROOM_MIN = 64
"""The minimum number of tokens by which the arrays grow."""


class Seen:
    """The tokens of an answer, and of `prompt`, int64 [tokens], if that counts too."""

    def __init__(self, prompt: torch.Tensor | None = None) -> None:
        known: NDArray[np.int64] = np.empty(0, np.int64) if prompt is None else np.unique(prompt.cpu().numpy())
        self._places = {int(token): at for at, token in enumerate(known)}
        self._tokens = known
        self._counts = np.zeros(len(known), np.float32)

    def add(self, token: int) -> None:
        """Add the answer's next token."""
        at = self._places.setdefault(token, len(self._places))
        if at == len(self._tokens):
            more = (0, max(ROOM_MIN, at))
            self._tokens, self._counts = np.pad(self._tokens, more), np.pad(self._counts, more)
        self._tokens[at] = token
        self._counts[at] += 1

    @property
    def tokens(self) -> torch.Tensor:
        """Each token of the text once, int64 [distinct tokens], in place until the next `add`."""
        return torch.from_numpy(self._tokens[: len(self._places)])

    @property
    def counts(self) -> torch.Tensor:
        """How often the answer has each of `tokens`, float32 [distinct tokens], in place until the next `add`."""
        return torch.from_numpy(self._counts[: len(self._places)])

    def fork(self) -> Seen:
        """A copy for another answer."""
        other = Seen()
        other._places = dict(self._places)
        other._tokens, other._counts = self._tokens.copy(), self._counts.copy()
        return other
