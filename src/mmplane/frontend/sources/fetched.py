"""What was fetched lately and carried an ETag: kept to be asked for again with `If-None-Match`. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

FETCHED_BYTES_MAX = 32 * 1024 * 1024
"""Of all that is kept: a fixed part of the front end's memory."""


@dataclass(frozen=True)
class Fetched:
    """One file as its host named it."""

    etag: str
    content: bytes | memoryview


class FetchedFiles:
    """Files by URL, least recently used first, of at most `bytes_max` together."""

    def __init__(self, bytes_max: int = FETCHED_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._files: OrderedDict[str, Fetched] = OrderedDict()
        self.kept_bytes = 0

    def get(self, url: str) -> Fetched | None:
        """The file of this URL, now the most recently used. It is only good once its host says so."""
        if url in self._files:
            self._files.move_to_end(url)
        return self._files.get(url)

    def keep(self, url: str, file: Fetched) -> None:
        """Remember a file, unless it is more than a quarter of the room."""
        self.forget(url)
        if len(file.content) > self._bytes_max // 4:
            return
        self._files[url] = file
        self.kept_bytes += len(file.content)
        while self.kept_bytes > self._bytes_max:
            self.forget(next(iter(self._files)))

    def forget(self, url: str) -> None:
        """It is out of date."""
        gone = self._files.pop(url, None)
        self.kept_bytes -= len(gone.content) if gone else 0
