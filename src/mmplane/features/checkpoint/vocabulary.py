"""Token ids that stand for an item in a prompt: special tokens by name, and the short texts around them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from mmplane.features.checkpoint.files import CheckpointFiles

Runs = tuple[tuple[int, int], ...]
"""(token id, repetitions), one after the other."""

Pieces = Iterable[tuple[str, int]]
"""(text, repetitions), one after the other."""


class _Added(msgspec.Struct):
    id: int
    content: str


class _Tokenizer(msgspec.Struct):
    added_tokens: list[_Added] = []


class Vocabulary:
    """The content of `tokenizer.json` and `tokenizer_config.json`; a tokenizer is only loaded if needed."""

    def __init__(self, files: CheckpointFiles) -> None:
        self._files = files

    def named(self, name: str, default: str | None = None) -> str:
        """Return a special token by its name in the configuration. Raises ValueError if there is none."""
        settings = self._files.json("tokenizer_config.json")
        for given in (settings.get("extra_special_tokens"), settings.get("model_specific_special_tokens"), settings):
            token = given.get(name) if isinstance(given, dict) else None
            if token is not None:
                return str(token["content"] if isinstance(token, dict) else token)
        if default is None:
            raise ValueError(f"this checkpoint's tokenizer has no {name}")
        return default

    def one(self, token: str) -> int:
        """Return the id of a token. Raises ValueError if it is not a single token."""
        ids = self.ids(token)
        if len(ids) != 1:
            raise ValueError(f"the placeholder {token} of this checkpoint is not one token")
        return ids[0]

    def ids(self, text: str) -> tuple[int, ...]:
        """Tokenise a text by itself."""
        if (special := self._special.get(text)) is not None:
            return (special,)
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def runs(self, pieces: Pieces) -> Runs:
        """Tokenise pieces that start and end with special tokens, joining equal neighbours."""
        runs: list[tuple[int, int]] = []
        for text, count in pieces:
            ids = self.ids(text)
            repeated = [(ids[0], count)] if len(ids) == 1 else [(token, 1) for _ in range(count) for token in ids]
            for token, times in repeated:
                if runs and runs[-1][0] == token:
                    times += runs.pop()[1]
                if times:
                    runs.append((token, times))
        return tuple(runs)

    @property
    def _path(self) -> Path:
        return self._files.folder / "tokenizer.json"

    @cached_property
    def _special(self) -> dict[str, int]:
        if not self._path.is_file():
            raise ValueError("this checkpoint has no tokenizer.json")
        content = msgspec.json.decode(self._path.read_bytes(), type=_Tokenizer)
        return {token.content: token.id for token in content.added_tokens}

    @cached_property
    def _tokenizer(self) -> Any:
        """Load the tokenizer, for texts that are not one special token: a hundred megabytes for a large vocabulary."""
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self._path))
