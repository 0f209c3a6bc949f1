"""A tenant's share of a shared resource: seats, bytes, room in the arena. Pure.

A grant is never revoked, so the limit must apply before another tenant asks. If there are several tenants, each may
hold half of the total. A tenant that already holds something also leaves a little (`ABSENT_PARTS`) for each tenant that
holds nothing, so that two greedy tenants cannot shut out a third.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from mmplane.core.errors import RequestError

ABSENT_PARTS = 16
"""This fraction of the total is left for a tenant that holds nothing, for up to a quarter of these tenants."""


class Share:
    """How much each of `tenants` holds of `total`, and whether it may hold more."""

    def __init__(self, total: int, tenants: int = 1) -> None:
        self._total = total
        self._tenants = tenants
        self.each_max = total if tenants < 2 else max(min(total, 1), total // 2)
        """The maximum for one tenant."""
        self._held: Counter[str] = Counter()
        self.total_held = 0

    def held(self, tenant: str) -> int:
        """How much this tenant holds."""
        return self._held[tenant]

    def allows(self, tenant: str, amount: int = 1) -> bool:
        """Whether this tenant's share allows `amount` more. It does not check for room."""
        own, free = self._held[tenant], self._total - self.total_held
        if own + amount > self.each_max:
            return False
        return not own or free < amount or free - amount >= self._left_for_absent(tenant)

    def take(self, tenant: str, amount: int = 1) -> None:
        """Hold `amount` more."""
        self._held[tenant] += amount
        self.total_held += amount

    def give_back(self, tenant: str, amount: int = 1) -> None:
        """Hold `amount` less."""
        self._held[tenant] -= amount
        self.total_held -= amount
        assert self._held[tenant] >= 0, (tenant, self._held[tenant])
        if not self._held[tenant]:
            del self._held[tenant]

    @contextmanager
    def seat(self, tenant: str) -> Iterator[None]:
        """Hold one more inside the block. Raises RequestError (429) if this tenant alone has too many."""
        if not self.allows(tenant):
            raise RequestError(
                429, "too_many_requests", "this key's tenant has too many requests in flight", retry_after_s=1
            )
        self.take(tenant)
        try:
            yield
        finally:
            self.give_back(tenant)

    def statistics(self) -> dict[str, int]:
        """How many tenants hold something, and the maximum of one. Without names, which not everybody may see."""
        return {"tenants": len(self._held), "most": max(self._held.values(), default=0), "each_max": self.each_max}

    def _left_for_absent(self, tenant: str) -> int:
        absent = self._tenants - len(self._held) - (tenant not in self._held)
        return min(max(0, absent), ABSENT_PARTS // 4) * (self._total // ABSENT_PARTS)
