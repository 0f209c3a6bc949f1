"""Media that a machine has examined and keeps until it makes the item, so that a file crosses the network once.

Both ends track the same entries: they see the same records in the same order, and drop entries by the same rule.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from mmplane.machines.records import LANES_MAX

ValueT = TypeVar("ValueT")
KEPT_MAX = LANES_MAX


class Kept(Generic[ValueT]):
    """Values by the job id of the examination, at most `bytes_max` in total; the oldest are dropped first."""

    def __init__(self, bytes_max: int) -> None:
        self._left_bytes = bytes_max
        self._values: dict[int, tuple[ValueT, int]] = {}

    def put(self, job_id: int, value: ValueT, length_bytes: int) -> None:
        """Keep a value for now."""
        self._values[job_id] = value, length_bytes
        self._left_bytes -= length_bytes
        while self._left_bytes < 0 or len(self._values) > KEPT_MAX:
            self.take(next(iter(self._values)))

    def take(self, job_id: int) -> ValueT | None:
        """Return the value if it is still there, and stop keeping it."""
        if job_id not in self._values:
            return None
        value, length_bytes = self._values.pop(job_id)
        self._left_bytes += length_bytes
        return value

    def find(self, value: ValueT) -> int:
        """Return the job id under which it is kept; 0 if it is not."""
        return next((job_id for job_id, (each, _) in self._values.items() if each == value), 0)
