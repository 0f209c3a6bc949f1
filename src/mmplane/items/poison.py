"""Files that end the processes which decode them: refused at once for a while, so that retries do not spread them (R3).

The first death may be another's doing (the kernel kills for memory, an operator kills by hand), so its askers may try
again. A second one of the same content is its own. Pure.
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
    """Content keys that have ended a worker lately, at most `KEYS_MAX`; the oldest go."""

    def __init__(self) -> None:
        self._records: OrderedDict[bytes, _Record] = OrderedDict()

    def strike(self, key: bytes, now_s: float) -> RequestError | None:
        """A worker ended over this key. What to say when that was once too often."""
        record = self._record(key, now_s) or _Record(0, 0.0)
        record.strikes += 1
        record.until_s = now_s + POISON_SECONDS
        self._records[key] = record
        self._records.move_to_end(key)
        if len(self._records) > KEYS_MAX:
            self._records.popitem(last=False)
        return self._refusal(record)

    def refusal(self, key: bytes, now_s: float) -> RequestError | None:
        """What to say to who asks for this key, if anything."""
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
        return bad_media("decoding this file has failed badly before") if record.strikes >= STRIKES else None
