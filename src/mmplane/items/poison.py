"""Files that end the processes that decode them: refused for a while, so that retries do not spread the damage (R3).

The first death may have another cause (the kernel kills for memory, an operator kills manually), so clients may try
again. A second death with the same content is blamed on the content. Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from mmplane.core.errors import RequestError, bad_media

STRIKES = 2
POISON_SECONDS = 600.0
KEYS_MAX = 1024


@dataclass
class _Record:
    strikes: int
    until_s: float


class Poison:
    """Content keys that have ended a worker recently, at most `KEYS_MAX`; the oldest are dropped first."""

    def __init__(self) -> None:
        self._records: OrderedDict[bytes, _Record] = OrderedDict()

    def strike(self, key: bytes, now_s: float) -> RequestError | None:
        """A worker ended over this key. Return the error if that was once too often."""
        record = self._record(key, now_s) or _Record(0, 0.0)
        record.strikes += 1
        record.until_s = now_s + POISON_SECONDS
        self._records[key] = record
        self._records.move_to_end(key)
        if len(self._records) > KEYS_MAX:
            self._records.popitem(last=False)
        return self._refusal(record)

    def refusal(self, key: bytes, now_s: float) -> RequestError | None:
        """Return the error for requests with this key, or None."""
        record = self._record(key, now_s)
        return None if record is None else self._refusal(record)

    def __len__(self) -> int:
        return len(self._records)

    def _record(self, key: bytes, now_s: float) -> _Record | None:
        record = self._records.get(key)
        if record is not None and now_s >= record.until_s:
            del self._records[key]
            return None
        return record

    @staticmethod
    def _refusal(record: _Record) -> RequestError | None:
        return bad_media("decoding this file has ended worker processes before") if record.strikes >= STRIKES else None
