"""A rank's memory of embeddings by content key: keeps and drops them as plans say, and counts the bytes."""

from __future__ import annotations

from collections.abc import Iterable

import torch


class Encoded:
    """Embeddings by content key."""

    def __init__(self) -> None:
        self._kept: dict[bytes, torch.Tensor] = {}
        self._kept_bytes = 0

    def get(self, key: bytes) -> torch.Tensor | None:
        """The embeddings kept under this key."""
        return self._kept.get(key)

    def keep(self, key: bytes, rows: torch.Tensor) -> torch.Tensor:
        """Keep these embeddings. They own their memory, and no more than that."""
        if rows.untyped_storage().nbytes() != rows.nbytes:
            rows = rows.clone()
        self._kept[key] = rows
        self._kept_bytes += rows.nbytes
        return rows

    def forget(self, keys: Iterable[bytes]) -> None:
        """Drop these keys, which a plan evicts."""
        for key in keys:
            if (rows := self._kept.pop(key, None)) is not None:
                self._kept_bytes -= rows.nbytes

    @property
    def kept_bytes(self) -> int:
        """The size of all kept embeddings."""
        return self._kept_bytes
