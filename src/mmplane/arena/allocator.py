"""The free bytes of one region: a best-fit allocator over offsets that coalesces on every free. Pure.

Rules: runs cover the region exactly, every run starts and ends on `align_bytes`, and no two free runs are adjacent.
Best fit preserves long runs, which matters because one clip needs a hundred times the bytes of a thumbnail.

Only `used` and `check_integrity` look at more runs than they change.
"""

from __future__ import annotations

import msgspec

from mmplane.arena.ordered import Ordered

ALIGN_BYTES = 64
"""A cache line: two slots never share one."""
_OFFSET_BITS = 48
_OFFSET = (1 << _OFFSET_BITS) - 1


class AllocatorStatistics(msgspec.Struct, frozen=True):
    """The figures of one region. `length_bytes == used_bytes + free_bytes`."""

    length_bytes: int
    used_bytes: int
    free_bytes: int
    largest_free_bytes: int
    free_runs: int


class Allocator:
    """Allocates offsets in one region of `length_bytes`, all multiples of `align_bytes` (a power of two).

    Raises ValueError if the region's length is not a positive multiple of the alignment.
    """

    def __init__(self, length_bytes: int, align_bytes: int = ALIGN_BYTES) -> None:
        if align_bytes < 1 or align_bytes & (align_bytes - 1):
            raise ValueError(f"the alignment must be a power of two, not {align_bytes}")
        if length_bytes < 1 or length_bytes % align_bytes:
            raise ValueError(
                f"a region's length must be a positive multiple of {align_bytes} bytes, not {length_bytes}"
            )
        self.length_bytes = length_bytes
        self.align_bytes = align_bytes
        self._used: dict[int, int] = {}  # offset -> length
        self._used_bytes = 0
        self._free: dict[int, int] = {0: length_bytes}  # offset -> length
        self._starts = {length_bytes: 0}  # end -> offset, of all runs
        self._by_offset = Ordered(0)
        self._by_length = Ordered(_packed(length_bytes, 0))

    def rounded(self, length_bytes: int) -> int:
        """The number of bytes that a reservation of `length_bytes` actually takes."""
        return -(-length_bytes // self.align_bytes) * self.align_bytes

    def reserve_nowait(self, length_bytes: int) -> int | None:
        """Take the shortest free run that fits (the lowest of equals). Returns its offset in bytes, or None."""
        assert length_bytes > 0, length_bytes
        offset_bytes = self.best_fit(length_bytes)
        if offset_bytes is not None:
            self._carve(offset_bytes, offset_bytes, self.rounded(length_bytes))
        return offset_bytes

    def reserve_at(self, offset_bytes: int, length_bytes: int) -> None:
        """Take exactly these bytes. It is a bug (AssertionError) if they are not all free."""
        wanted_bytes = self.rounded(length_bytes)
        start_bytes, end_bytes = self.free_run(offset_bytes)
        assert start_bytes <= offset_bytes < offset_bytes + wanted_bytes <= end_bytes, f"{offset_bytes} is not free"
        self._carve(start_bytes, offset_bytes, wanted_bytes)

    def reserve_over(self, start_bytes: int, end_bytes: int, offset_bytes: int, length_bytes: int) -> list[int]:
        """Free the reserved runs between these two bytes and reserve a run inside them. Returns the offsets freed."""
        freed, at_bytes = [], start_bytes
        while at_bytes < end_bytes:
            if at_bytes in self._free:
                at_bytes += self._drop_free_run(at_bytes)
            else:
                freed.append(at_bytes)
                at_bytes += self._drop(at_bytes)
        assert at_bytes == end_bytes, f"no run ends at {end_bytes}"
        self._split(*self._coalesced(start_bytes, end_bytes - start_bytes), offset_bytes, self.rounded(length_bytes))
        return freed

    def free(self, offset_bytes: int) -> None:
        """Free the run that was reserved at this offset. Any other offset is a bug (AssertionError)."""
        assert offset_bytes in self._used, f"no run starts at {offset_bytes}"
        self._add_free_run(*self._coalesced(offset_bytes, self._drop(offset_bytes)))

    def best_fit(self, length_bytes: int) -> int | None:
        """The offset of the shortest free run that fits; the lowest of equals."""
        found = self._by_length.at_least(_packed(self.rounded(length_bytes), 0))
        return None if found is None else found & _OFFSET

    def free_run(self, offset_bytes: int) -> tuple[int, int]:
        """Start and end of the free run around this offset; both are the offset itself if it is reserved."""
        start_bytes = self._by_offset.at_most(offset_bytes)
        end_bytes = 0 if start_bytes is None else start_bytes + self._free[start_bytes]
        return (
            (offset_bytes, offset_bytes)
            if start_bytes is None or end_bytes <= offset_bytes
            else (start_bytes, end_bytes)
        )

    def end_of(self, offset_bytes: int) -> int:
        """The end of the run that begins here, free or not."""
        return offset_bytes + (self._free.get(offset_bytes) or self._used[offset_bytes])

    def start_of(self, end_bytes: int) -> int:
        """The start of the run that ends here, free or not."""
        return self._starts[end_bytes]

    def used(self) -> dict[int, int]:
        """The reserved runs: offset to length, in bytes. A copy."""
        return dict(self._used)

    @property
    def free_bytes(self) -> int:
        """The number of free bytes, in all runs together."""
        return self.length_bytes - self._used_bytes

    @property
    def longest_free(self) -> tuple[int, int]:
        """Length and offset of the longest free run; zeros if there is none."""
        last = self._by_length.last or 0
        return last >> _OFFSET_BITS, last & _OFFSET

    def statistics(self) -> AllocatorStatistics:
        """The current figures."""
        return AllocatorStatistics(
            length_bytes=self.length_bytes,
            used_bytes=self._used_bytes,
            free_bytes=self.free_bytes,
            largest_free_bytes=self.longest_free[0],
            free_runs=len(self._free),
        )

    def check_integrity(self) -> None:
        """Assert the rules at the top of this file, and that the three views of the free runs agree."""
        assert list(self._by_offset) == sorted(self._free)
        assert list(self._by_length) == sorted(_packed(length, offset) for offset, length in self._free.items())
        assert self._used_bytes == sum(self._used.values())
        assert self._starts == {offset + length: offset for offset, length, _ in self._tiles()}
        end_bytes, last_was_free = 0, False
        for offset, length, is_free in self._tiles():
            assert offset == end_bytes, f"runs overlap or leave a gap at {offset}"
            assert length > 0
            assert length % self.align_bytes == 0
            assert not (is_free and last_was_free), f"two free runs are adjacent at {offset}"
            end_bytes, last_was_free = offset + length, is_free
        assert end_bytes == self.length_bytes

    def _tiles(self) -> list[tuple[int, int, bool]]:
        free = [(offset, length, True) for offset, length in self._free.items()]
        return sorted(free + [(offset, length, False) for offset, length in self._used.items()])

    def _coalesced(self, offset_bytes: int, length_bytes: int) -> tuple[int, int]:
        """The run extended by its free neighbours on both sides, which are removed."""
        after_bytes = offset_bytes + length_bytes
        if after_bytes in self._free:
            length_bytes += self._drop_free_run(after_bytes)
        before_bytes = self._starts.get(offset_bytes)
        if before_bytes in self._free:
            length_bytes += self._drop_free_run(before_bytes)
            offset_bytes = before_bytes
        return offset_bytes, length_bytes

    def _carve(self, run_bytes: int, offset_bytes: int, length_bytes: int) -> None:
        """Reserve a part of the free run at `run_bytes`; the rest on either side stays free."""
        self._split(run_bytes, self._drop_free_run(run_bytes), offset_bytes, length_bytes)

    def _split(self, run_bytes: int, run_length_bytes: int, offset_bytes: int, length_bytes: int) -> None:
        """Reserve a part of a run that has no entry; the rest on either side becomes free."""
        end_bytes = offset_bytes + length_bytes
        run_end_bytes = run_bytes + run_length_bytes
        assert run_bytes <= offset_bytes < end_bytes <= run_end_bytes, f"{offset_bytes} is not free"
        if run_bytes < offset_bytes:
            self._add_free_run(run_bytes, offset_bytes - run_bytes)
        if end_bytes < run_end_bytes:
            self._add_free_run(end_bytes, run_end_bytes - end_bytes)
        self._used[offset_bytes] = length_bytes
        self._used_bytes += length_bytes
        self._starts[end_bytes] = offset_bytes

    def _drop(self, offset_bytes: int) -> int:
        length_bytes = self._used.pop(offset_bytes)
        self._used_bytes -= length_bytes
        del self._starts[offset_bytes + length_bytes]
        return length_bytes

    def _add_free_run(self, offset_bytes: int, length_bytes: int) -> None:
        self._free[offset_bytes] = length_bytes
        self._starts[offset_bytes + length_bytes] = offset_bytes
        self._by_offset.add(offset_bytes)
        self._by_length.add(length_bytes << _OFFSET_BITS | offset_bytes)

    def _drop_free_run(self, offset_bytes: int) -> int:
        length_bytes = self._free.pop(offset_bytes)
        del self._starts[offset_bytes + length_bytes]
        self._by_offset.remove(offset_bytes)
        self._by_length.remove(length_bytes << _OFFSET_BITS | offset_bytes)
        return length_bytes


def _packed(length_bytes: int, offset_bytes: int) -> int:
    """Both in one number, which sorts runs by length and then offset: one object instead of three."""
    return length_bytes << _OFFSET_BITS | offset_bytes
