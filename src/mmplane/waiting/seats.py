"""A tenant's share of the requests in flight: where there are several, none can take all places. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from mmplane.core.errors import RequestError


def share_of(total: int, tenants: int) -> int:
    """What one of so many tenants may hold of `total`: all of it when it is alone, else half."""
    return total if tenants < 2 else max(1, total // 2)


class Seats:
    """How many requests each tenant has in flight, at most `each_max`."""

    def __init__(self, each_max: int) -> None:
        self._each_max = each_max
        self._held: Counter[str] = Counter()

    @contextmanager
    def hold(self, tenant: str) -> Iterator[None]:
        """One more inside the block. Raises RequestError (429): this tenant asks too much, not all together."""
        if self._held[tenant] >= self._each_max:
            raise RequestError(
                429, "too_many_requests", "this key's tenant has too many requests in flight", retry_after_s=1
            )
        self._held[tenant] += 1
        try:
            yield
        finally:
            self._held[tenant] -= 1
            if not self._held[tenant]:
                del self._held[tenant]

    def statistics(self) -> dict[str, int]:
        """How many tenants have requests in flight, and the most that one has. No names: they are not everybody's."""
        return {"tenants": len(self._held), "most": max(self._held.values(), default=0), "each_max": self._each_max}
