"""A cache of fetched files that had an ETag, for requests with `If-None-Match`. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

FETCHED_BYTES_MAX = 32 * 1024 * 1024
"""Maximum size of the cache: a fixed part of the front end's memory."""


@dataclass(frozen=True)
class Fetched:
    """One file with the ETag of its host."""

    etag: str
    content: bytes | memoryview


class FetchedFiles:
    """Files by URL, least recently used first, of at most `bytes_max` together."""

    def __init__(self, bytes_max: int = FETCHED_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._files: OrderedDict[str, Fetched] = OrderedDict()
        self.kept_bytes = 0

    def get(self, url: str) -> Fetched | None:
        """Return the file of this URL and mark it as used. It may only be used if its host confirms it."""
        if url in self._files:
            self._files.move_to_end(url)
        return self._files.get(url)

    def keep(self, url: str, file: Fetched) -> None:
        """Store a file, unless it is larger than a quarter of the cache."""
        self.forget(url)
        if len(file.content) > self._bytes_max // 4:
            return
        self._files[url] = file
        self.kept_bytes += len(file.content)
        while self.kept_bytes > self._bytes_max:
            self.forget(next(iter(self._files)))

    def forget(self, url: str) -> None:
        """The file is out of date."""
        gone = self._files.pop(url, None)
        self.kept_bytes -= len(gone.content) if gone else 0
