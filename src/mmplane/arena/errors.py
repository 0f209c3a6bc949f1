"""The arena's errors. The owner decides which become a status code and which are only counted."""

# The names describe the situation (like `StopIteration`, `trio.WouldBlock`), and do not end in Error.

from __future__ import annotations


class ArenaError(Exception):
    """Base of all errors of the arena. The state is the same as before the call."""


class ArenaFull(ArenaError):
    """The region has no free run of that length, even with all possible evictions.

    `ever` is True if it could never fit, even into an empty region (413 for a client), and False if it may fit once
    leases end (503).
    """

    def __init__(self, *, region: int, length_bytes: int, ever: bool) -> None:
        when = "ever" if ever else "now"
        super().__init__(f"{length_bytes} bytes do not fit in region {region} {when}")
        self.region = region
        self.length_bytes = length_bytes
        self.ever = ever


class StaleSlot(ArenaError):
    """The slot is from an earlier use of its bytes, or its owner has discarded it."""


class NotHeld(ArenaError):
    """The process does not hold what it returns: it has already returned it, or the claim ended with its process."""


class DeadProcess(ArenaError):
    """The process has been reaped: a claim made now would never end."""


class OutOfMemory(ArenaError):
    """The kernel could not reserve a region's pages."""


class ForeignRegion(ArenaError):
    """A region or a record belongs to a different plane."""


class Owned(ArenaError):
    """The region has, or had, another owner. Two owners of the same bytes would contradict each other."""
