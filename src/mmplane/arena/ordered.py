"""A sorted list in short chunks: adding and removing move a limited number of entries at any length."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from operator import itemgetter

CHUNK_MAX = 512
_first = itemgetter(0)


class Ordered:
    """Distinct numbers in order."""

    def __init__(self, value: int) -> None:
        self._chunks: list[list[int]] = [[value]]

    def __iter__(self) -> Iterator[int]:
        for chunk in self._chunks:
            yield from chunk

    @property
    def last(self) -> int | None:
        """The largest number."""
        return self._chunks[-1][-1] if self._chunks else None

    def add(self, value: int) -> None:
        """Add a number."""
        at = max(0, bisect_right(self._chunks, value, key=_first) - 1)
        if not self._chunks:
            self._chunks.append([])
        chunk = self._chunks[at]
        insort(chunk, value)
        if len(chunk) > CHUNK_MAX:
            self._chunks.insert(at + 1, chunk[CHUNK_MAX // 2 :])
            del chunk[CHUNK_MAX // 2 :]

    def remove(self, value: int) -> None:
        """Remove a number, which must exist."""
        at = bisect_right(self._chunks, value, key=_first) - 1
        chunk = self._chunks[at]
        chunk.pop(bisect_left(chunk, value))
        if not chunk:
            del self._chunks[at]

    def at_least(self, value: int) -> int | None:
        """The smallest number that is at least `value`."""
        at = max(0, bisect_right(self._chunks, value, key=_first) - 1)
        for chunk in self._chunks[at : at + 2]:
            index = bisect_left(chunk, value)
            if index < len(chunk):
                return chunk[index]
        return None

    def at_most(self, value: int) -> int | None:
        """The largest number that is at most `value`."""
        at = bisect_right(self._chunks, value, key=_first) - 1
        return self._chunks[at][bisect_right(self._chunks[at], value) - 1] if at >= 0 else None
