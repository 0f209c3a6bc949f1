"""Which finished items can be asked for again: content key to item, in order of use, one order per region."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from mmplane.core.records import Item


class Index:
    """Items by content key. Pure; it knows nothing of leases: who may be evicted is the arena's question."""

    def __init__(self, regions: int) -> None:
        self._orders: list[OrderedDict[bytes, Item]] = [OrderedDict() for _ in range(regions)]
        self._region_of: dict[bytes, int] = {}
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._region_of)

    def get(self, key: bytes) -> Item | None:
        """The item, uncounted and with its place in the order unchanged."""
        region = self._region_of.get(key)
        return None if region is None else self._orders[region][key]

    def lookup(self, key: bytes) -> Item | None:
        """The item, now the most recently used of its region; counted as a hit or a miss."""
        region = self._region_of.get(key)
        if region is None:
            self.misses += 1
            return None
        self.hits += 1
        self._orders[region].move_to_end(key)
        return self._orders[region][key]

    def add(self, key: bytes, item: Item) -> None:
        """Index a new item as the most recently used of its region. A key that is present is a bug."""
        assert key not in self._region_of
        self._region_of[key] = item.slot.region
        self._orders[item.slot.region][key] = item

    def remove(self, key: bytes) -> None:
        """Forget an item. A key that is absent is a bug."""
        del self._orders[self._region_of.pop(key)][key]

    def oldest_first(self, region: int) -> Iterator[tuple[bytes, Item]]:
        """The items of one region, least recently used first."""
        yield from self._orders[region].items()

    def check_integrity(self) -> None:
        """Assert that both views name the same items."""
        found = {key: region for region, order in enumerate(self._orders) for key in order}
        assert found == self._region_of
        assert sum(map(len, self._orders)) == len(found)
