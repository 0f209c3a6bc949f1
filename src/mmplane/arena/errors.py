"""What the arena refuses, as types. The owner decides which become a status code and which are only counted."""

# The names say what is the case (`StopIteration`, `trio.WouldBlock`), not that it is an error.

from __future__ import annotations


class ArenaError(Exception):
    """Base of everything that the arena refuses. State is as before the call."""


class ArenaFull(ArenaError):
    """No run of that length can be had in that region, even by evicting all that may be evicted.

    `ever` is True when it could never fit, even with the region empty (a client's 413), and False when it may fit once
    leases end (a 503).
    """

    def __init__(self, *, region: int, length_bytes: int, ever: bool) -> None:
        when = "ever" if ever else "now"
        super().__init__(f"{length_bytes} bytes do not fit in region {region} {when}")
        self.region = region
        self.length_bytes = length_bytes
        self.ever = ever


class StaleSlot(ArenaError):
    """The slot names a use of its bytes that is over, or that its owner has discarded."""


class NotHeld(ArenaError):
    """The process does not hold what it gives back: a claim given back twice, or one that ended with its process."""


class DeadProcess(ArenaError):
    """The claimant has been reaped: a claim made now would never end."""


class OutOfMemory(ArenaError):
    """The kernel would not reserve a region's pages."""


class ForeignRegion(ArenaError):
    """A region, or a record, is of another plane than the one at hand."""


class Owned(ArenaError):
    """The region has, or had, another owner: two sets of books over the same bytes would contradict each other."""
