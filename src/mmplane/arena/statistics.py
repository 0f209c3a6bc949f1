"""The arena's figures: frozen, and complete, so that every byte of a region is in exactly one of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from mmplane.arena.allocator import AllocatorStatistics
from mmplane.arena.leases import Occupant, State


class RegionStatistics(msgspec.Struct, frozen=True):
    """Bytes of one region by state. All but `largest_free_bytes` add up to `length_bytes`.

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
        return (
            self.writing_bytes
            + self.unclaimed_bytes
            + self.leased_bytes
            + self.evictable_bytes
            + self.quarantined_bytes
        )


class ArenaStatistics(msgspec.Struct, frozen=True):
    """The arena now (regions, total, slots, leases, items) and since its start (hits, misses, evictions)."""

    regions: tuple[RegionStatistics, ...]
    total: RegionStatistics
    slots: int
    leases: int
    items: int
    hits: int
    misses: int
    evictions: int


def region_statistics(figures: AllocatorStatistics, occupants: Iterable[Occupant]) -> RegionStatistics:
    """One region's figures from its allocator's and its occupants."""
    used = dict.fromkeys(("writing", "unclaimed", "leased", "evictable", "quarantined"), 0)
    for occupant in occupants:
        used[_kind(occupant)] += occupant.reserved_bytes
    return RegionStatistics(
        length_bytes=figures.length_bytes,
        free_bytes=figures.free_bytes,
        largest_free_bytes=figures.largest_free_bytes,
        free_runs=figures.free_runs,
        **{f"{kind}_bytes": length_bytes for kind, length_bytes in used.items()},
    )


def sum_regions(regions: Sequence[RegionStatistics]) -> RegionStatistics:
    """All regions as one; `largest_free_bytes` is the largest of any, since no slot spans two."""
    names = RegionStatistics.__struct_fields__
    sums = {name: sum(getattr(region, name) for region in regions) for name in names}
    sums["largest_free_bytes"] = max((region.largest_free_bytes for region in regions), default=0)
    return RegionStatistics(**sums)


def _kind(occupant: Occupant) -> str:
    if occupant.state is not State.READY:
        return str(occupant.state.value)
    if occupant.leases.total:
        return "leased"
    return "unclaimed" if occupant.key is None else "evictable"
