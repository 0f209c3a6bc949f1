"""Where HAProxy sends a request: the key of `place.lua`, and the ring of `src/lb_chash.c` (2.6 and 2.8), in Python.

`tests/process/test_route.py` runs both over the same requests. Here they serve predictions and simulations.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Mapping

from mmplane.route.configuration import BALANCE_PERCENT, WEIGHT

SOURCE_BYTES = 65536
SCALE = 16
"""Places on the ring for each unit of weight (BE_WEIGHT_SCALE)."""
IDS_APART = 4096
"""Numbers between the places of two ids (SRV_EWGHT_RANGE)."""
WORD = 0xFFFFFFFF


def media_key(body: bytes, authorization: bytes = b"") -> bytes | None:
    """The digest that decides; None where there is no media. `body` is as much as HAProxy has of it."""
    item = _item(body)
    if item is None:
        return None
    return hashlib.sha256(hashlib.sha256(authorization).digest() + item).digest()


def _item(body: bytes) -> bytes | None:
    if named := re.search(rb'"uuid"\s*:\s*"([^"]+)', body):
        return b"uuid:" + named[1]
    source = re.search(rb'"(?:url|data|image_embeds)"\s*:\s*"(?!")', body)
    if source is None:
        return None
    begin, end = source.end(), body.find(b'"', source.end())
    length = SOURCE_BYTES
    if end >= 0:
        length = min(length, end - begin)
    while begin + length > len(body):
        length //= 2
    return b"source:" + body[begin : begin + length]


def full_hash(number: int) -> int:
    """Bob Jenkins' integer hash, as HAProxy has it."""
    a = number & WORD
    a = ((a + 0x7ED55D16) + (a << 12)) & WORD
    a = ((a ^ 0xC761C23C) ^ (a >> 19)) & WORD
    a = ((a + 0x165667B1) + (a << 5)) & WORD
    a = ((a + 0xD3A2646C) ^ (a << 9)) & WORD
    a = ((a + 0xFD7046C5) + (a << 3)) & WORD
    return ((a ^ 0xB55A4F09) ^ (a >> 16)) * 3221225473 & WORD


def wt6(key: bytes) -> int:
    """`hash-type ... wt6`."""
    h0, h1, step0, step1 = 0xA53C965A, 0x5CA6953A, 6, 18
    for byte in key:
        h0 = ~(h0 ^ byte) & WORD
        h1 = ~(h1 + byte) & WORD
        turned = (h1 << step0 | h1 >> (32 - step0)) & WORD
        h1 = (h0 << step1 | h0 >> (32 - step1)) & WORD
        h0 = turned
        low = ((h0 >> 16) ^ h1) & 0xFFFF
        step0, step1 = low & 0x1F, low >> 11
    return h0 ^ h1


class Ring:
    """Servers by name, with the numbers that the configuration gives them."""

    def __init__(self, ids: Mapping[str, int], balance_percent: int = BALANCE_PERCENT) -> None:
        self._balance_percent = balance_percent
        self._weight = WEIGHT * SCALE
        self._order = list(ids)
        places = sorted(
            (full_hash(number * IDS_APART + index), name)
            for name, number in ids.items()
            for index in range(self._weight)
        )
        self._keys = [key for key, _ in places]
        self._names = [name for _, name in places]

    def place(self, key: bytes, served: Mapping[str, int] | None = None) -> str:
        """The server for a key. `served` are requests in flight; without it no load is bounded."""
        return self.place_hash(full_hash(wt6(key)), served)

    def place_hash(self, hashed: int, served: Mapping[str, int] | None = None) -> str:
        """The same for a key's hash: the closest place, then onwards until a server has room."""
        after = bisect_left(self._keys, hashed) % len(self._keys)
        before = after - 1
        nearer = (hashed - self._keys[before]) & WORD <= (self._keys[after] - hashed) & WORD
        at = before % len(self._keys) if nearer else after
        if served is not None:
            slots = self.slots(sum(served.values()))
            while served[self._names[at]] >= slots[self._names[at]]:
                at = (at + 1) % len(self._names)
        return self._names[at]

    def slots(self, in_flight: int) -> dict[str, int]:
        """How many requests each server may have when one more comes to so many."""
        total = ((in_flight + 1) * self._balance_percent + 99) // 100
        weights = self._weight * len(self._order)
        whole, rest = divmod(total, weights)
        found = {}
        for index, name in enumerate(self._order):
            before = self._weight * index
            part = (before + self._weight) * rest // weights - before * rest // weights
            found[name] = max(1, self._weight * whole + part)
        return found
