"""Which bytes of one region are free: best fit over offsets, coalesced on every free. Pure: it touches no byte.

Rules: runs tile the region exactly, every run starts and ends on `align_bytes`, and no two free runs touch. Best fit
keeps long runs long, which matters because one clip needs a hundred times the bytes of a thumbnail.

What is not to like: `insort` and `pop` on a list move memory, so a call is O(n) in the number of free runs with a tiny
constant. Coalescing keeps that number at or below that of the slots, and below 100,000 it costs microseconds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

import msgspec

ALIGN_BYTES = 64
"""A cache line: two slots never share one."""


class AllocatorStatistics(msgspec.Struct, frozen=True):
    """What one region holds. `length_bytes == used_bytes + free_bytes`."""

    length_bytes: int
    used_bytes: int
    free_bytes: int
    largest_free_bytes: int
    free_runs: int


class Allocator:
    """Offsets in one region of `length_bytes`, all multiples of `align_bytes` (a power of two).

    Raises ValueError when the region's length is not a positive multiple of the alignment.
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
        self._by_offset = [0]
        self._by_length = [(length_bytes, 0)]

    def rounded(self, length_bytes: int) -> int:
        """The bytes that a reservation of `length_bytes` really takes."""
        return -(-length_bytes // self.align_bytes) * self.align_bytes

    def reserve_nowait(self, length_bytes: int) -> int | None:
        """Take the shortest free run that fits (of equals the lowest); its offset in bytes, None if there is none."""
        assert length_bytes > 0, length_bytes
        wanted_bytes = self.rounded(length_bytes)
        index = bisect_left(self._by_length, (wanted_bytes, 0))
        if index == len(self._by_length):
            return None
        run_bytes, offset_bytes = self._by_length[index]
        self._drop_free_run(offset_bytes)
        if run_bytes > wanted_bytes:
            self._add_free_run(offset_bytes + wanted_bytes, run_bytes - wanted_bytes)
        self._take(offset_bytes, wanted_bytes)
        return offset_bytes

    def free(self, offset_bytes: int) -> None:
        """Give back the run that `reserve_nowait` returned. Anything else is a bug (AssertionError)."""
        assert offset_bytes in self._used, f"no run starts at {offset_bytes}"
        length_bytes = self._used.pop(offset_bytes)
        self._used_bytes -= length_bytes
        self._add_free_run(*self._coalesced(offset_bytes, length_bytes))

    def take_back(self, offset_bytes: int, length_bytes: int) -> None:
        """Undo a `free`: the same run is reserved again. A bug (AssertionError) unless all of it is free."""
        end_bytes = offset_bytes + self.rounded(length_bytes)
        run_bytes = self._by_offset[bisect_right(self._by_offset, offset_bytes) - 1] if self._by_offset else end_bytes
        run_end_bytes = run_bytes + self._free.get(run_bytes, 0)
        assert run_bytes <= offset_bytes < end_bytes <= run_end_bytes, f"{offset_bytes} is not free"
        self._drop_free_run(run_bytes)
        if run_bytes < offset_bytes:
            self._add_free_run(run_bytes, offset_bytes - run_bytes)
        if end_bytes < run_end_bytes:
            self._add_free_run(end_bytes, run_end_bytes - end_bytes)
        self._take(offset_bytes, end_bytes - offset_bytes)

    def used(self) -> dict[int, int]:
        """The reserved runs: offset to length, in bytes. A copy."""
        return dict(self._used)

    @property
    def free_bytes(self) -> int:
        """Bytes that are not reserved, in however many runs."""
        return self.length_bytes - self._used_bytes

    def statistics(self) -> AllocatorStatistics:
        """The figures of this moment."""
        return AllocatorStatistics(
            length_bytes=self.length_bytes,
            used_bytes=self._used_bytes,
            free_bytes=self.free_bytes,
            largest_free_bytes=self._by_length[-1][0] if self._by_length else 0,
            free_runs=len(self._free),
        )

    def check_integrity(self) -> None:
        """Assert the rules at the top of this file, and that the three views of the free runs agree."""
        assert self._by_offset == sorted(self._free)
        assert self._by_length == sorted((length, offset) for offset, length in self._free.items())
        assert self._used_bytes == sum(self._used.values())
        end_bytes, last_was_free = 0, False
        for offset, length, is_free in self._tiles():
            assert offset == end_bytes, f"runs overlap or leave a gap at {offset}"
            assert length > 0
            assert length % self.align_bytes == 0
            assert not (is_free and last_was_free), f"two free runs touch at {offset}"
            end_bytes, last_was_free = offset + length, is_free
        assert end_bytes == self.length_bytes

    def _tiles(self) -> list[tuple[int, int, bool]]:
        free = [(offset, length, True) for offset, length in self._free.items()]
        return sorted(free + [(offset, length, False) for offset, length in self._used.items()])

    def _coalesced(self, offset_bytes: int, length_bytes: int) -> tuple[int, int]:
        """The run grown by the free neighbours on both sides, which stop being runs of their own."""
        index = bisect_left(self._by_offset, offset_bytes)
        after_bytes = offset_bytes + length_bytes
        if after_bytes in self._free:
            length_bytes += self._drop_free_run(after_bytes)
        if index > 0:
            before_bytes = self._by_offset[index - 1]
            if before_bytes + self._free[before_bytes] == offset_bytes:
                length_bytes += self._drop_free_run(before_bytes)
                offset_bytes = before_bytes
        return offset_bytes, length_bytes

    def _take(self, offset_bytes: int, length_bytes: int) -> None:
        self._used[offset_bytes] = length_bytes
        self._used_bytes += length_bytes

    def _add_free_run(self, offset_bytes: int, length_bytes: int) -> None:
        self._free[offset_bytes] = length_bytes
        insort(self._by_offset, offset_bytes)
        insort(self._by_length, (length_bytes, offset_bytes))

    def _drop_free_run(self, offset_bytes: int) -> int:
        length_bytes = self._free.pop(offset_bytes)
        self._by_offset.pop(bisect_left(self._by_offset, offset_bytes))
        self._by_length.pop(bisect_left(self._by_length, (length_bytes, offset_bytes)))
        return length_bytes
