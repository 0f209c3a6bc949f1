"""The links inside a group of ranks: between the leader and each follower one for records and one for parcels, and
between each two ranks one for sums."""

from __future__ import annotations

import socket
from collections.abc import Collection
from itertools import combinations

from mmplane.wire.link import pair
from mmplane.wire.stream import stream_pair

Ends = tuple[socket.socket, socket.socket]


class GroupLinks:
    """All ends, by the rank that inherits them. Close it once every rank has its own ends. Raises OSError.

    With `here`, only links of these ranks are made. A server makes all of them, because those between other machines
    pass through it.
    """

    def __init__(self, size: int, here: Collection[int] | None = None) -> None:
        here = range(size) if here is None else here
        followers = [rank for rank in range(1, size) if rank in here or 0 in here]
        self._pairs = {rank: pair() for rank in followers}
        self._streams = {rank: stream_pair() for rank in followers}
        self._sums = {
            ranks: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            for ranks in combinations(range(size), 2)
            if any(rank in here for rank in ranks)
        }

    def of(self, rank: int) -> dict[str, int]:
        """The descriptors of one rank, by name."""
        sums = {
            f"sums{sum(ranks) - rank}": ends[ranks.index(rank)].fileno()
            for ranks, ends in self._sums.items()
            if rank in ranks
        }
        if rank:
            return sums | {"leader": self._pairs[rank][1].fileno(), "parcels": self._streams[rank][1].fileno()}
        followers = {f"follower{i}": ours.fileno() for i, (ours, _) in self._pairs.items()}
        return sums | followers | {f"parcels{i}": ours.fileno() for i, (ours, _) in self._streams.items()}

    def crossing(self, ranks: Collection[int]) -> list[Ends]:
        """The links between these followers and all other ranks: (their end, the other end).

        The order is the same on every machine. The streams of parcels are not among them: nothing is sent inline to
        another machine.
        """
        records = [(theirs, ours) for rank, (ours, theirs) in self._pairs.items() if rank in ranks]
        sums = [
            ends if first in ranks else ends[::-1]
            for (first, second), ends in self._sums.items()
            if (first in ranks) != (second in ranks)
        ]
        return [*records, *sums]

    def close(self) -> None:
        """Close this process's copies."""
        for ours, theirs in (*self._pairs.values(), *self._streams.values(), *self._sums.values()):
            ours.close()
            theirs.close()
