"""The arena's figures: frozen and complete. Every byte of a region is counted in exactly one of them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

KINDS = ("writing", "unclaimed", "leased", "evictable", "quarantined")
"""The kinds of bytes that are not free."""


class RegionStatistics(msgspec.Struct, frozen=True):
    """Bytes of one region by state. All except `largest_free_bytes` add up to `length_bytes`.

    `unclaimed_bytes` are finished but neither leased nor indexed yet: the moment between commit and publish or lease.
    """

    length_bytes: int = 0
    free_bytes: int = 0
    writing_bytes: int = 0
    unclaimed_bytes: int = 0
    leased_bytes: int = 0
    evictable_bytes: int = 0
    quarantined_bytes: int = 0
    largest_free_bytes: int = 0
    free_runs: int = 0

    @property
    def used_bytes(self) -> int:
        """Everything that is not free."""
        return sum(getattr(self, f"{kind}_bytes") for kind in KINDS)


class ArenaStatistics(msgspec.Struct, frozen=True):
    """The arena now (regions, total, slots, leases, items) and since its start (hits, misses, evictions).

    `held_bytes_max` is the maximum that could not be evicted at any moment since the start. A reader who only looks
    occasionally would miss what a request holds for a few milliseconds.
    """

    regions: tuple[RegionStatistics, ...]
    total: RegionStatistics
    slots: int
    leases: int
    items: int
    hits: int
    misses: int
    evictions: int
    held_bytes_max: int


def sum_regions(regions: Sequence[RegionStatistics]) -> RegionStatistics:
    """The sum of all regions; `largest_free_bytes` is the maximum, since no slot spans two."""
    names = RegionStatistics.__struct_fields__
    sums = {name: sum(getattr(region, name) for region in regions) for name in names}
    sums["largest_free_bytes"] = max((region.largest_free_bytes for region in regions), default=0)
    return RegionStatistics(**sums)
