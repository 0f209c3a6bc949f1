"""Admission by bytes: one budget, reserved from lengths before any work is done (invariant 8). Pure."""

from __future__ import annotations

from types import TracebackType

import msgspec

from mmplane.core.errors import overloaded, too_large


class BudgetStatistics(msgspec.Struct, frozen=True):
    """The budget now, and how often it said no."""

    limit_bytes: int
    reserved_bytes: int
    peak_bytes: int
    refused: int


class Reservation:
    """Bytes held until `release` or the end of the block, whichever comes first."""

    def __init__(self, budget: Budget, length_bytes: int) -> None:
        self._budget = budget
        self._length_bytes = length_bytes

    def release(self) -> None:
        """Give the bytes back. Idempotent."""
        self._budget._give_back(self._length_bytes)
        self._length_bytes = 0

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Budget:
    """Bytes that requests in flight may take together."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._reserved_bytes = 0
        self._peak_bytes = 0
        self._refused = 0

    def reserve(self, length_bytes: int) -> Reservation:
        """Hold `length_bytes`. Raises RequestError: 413 if they never fit, 503 if not now."""
        assert length_bytes >= 0, length_bytes
        if length_bytes > self._limit_bytes:
            self._refused += 1
            raise too_large("the request is larger than this server takes")
        if self._reserved_bytes + length_bytes > self._limit_bytes:
            self._refused += 1
            raise overloaded("the server has no room for this request now")
        self._reserved_bytes += length_bytes
        self._peak_bytes = max(self._peak_bytes, self._reserved_bytes)
        return Reservation(self, length_bytes)

    def statistics(self) -> BudgetStatistics:
        """What is reserved, what was, and how often there was no room."""
        return BudgetStatistics(self._limit_bytes, self._reserved_bytes, self._peak_bytes, self._refused)

    def _give_back(self, length_bytes: int) -> None:
        self._reserved_bytes -= length_bytes
        assert self._reserved_bytes >= 0, self._reserved_bytes
