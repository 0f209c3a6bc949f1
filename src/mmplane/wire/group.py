"""The links inside a group of ranks: between the leader and each follower one for records and one for parcels, and
between each two ranks one for sums."""

from __future__ import annotations

import socket
from itertools import combinations

from mmplane.wire.link import pair
from mmplane.wire.stream import stream_pair


class GroupLinks:
    """All ends, by the rank that inherits them. Close it once every rank has its own ends. Raises OSError."""

    def __init__(self, size: int) -> None:
        self._pairs = [pair() for _ in range(1, size)]
        self._streams = [stream_pair() for _ in range(1, size)]
        self._sums = {
            ranks: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for ranks in combinations(range(size), 2)
        }

    def of(self, rank: int) -> dict[str, int]:
        """The descriptors of one rank, by name."""
        sums = {
            f"sums{sum(ranks) - rank}": ends[ranks.index(rank)].fileno()
            for ranks, ends in self._sums.items()
            if rank in ranks
        }
        if rank:
            return sums | {"leader": self._pairs[rank - 1][1].fileno(), "parcels": self._streams[rank - 1][1].fileno()}
        followers = {f"follower{i}": ours.fileno() for i, (ours, _) in enumerate(self._pairs, 1)}
        return sums | followers | {f"parcels{i}": ours.fileno() for i, (ours, _) in enumerate(self._streams, 1)}

    def close(self) -> None:
        """Close this process's copies."""
        for ours, theirs in (*self._pairs, *self._streams, *self._sums.values()):
            ours.close()
            theirs.close()
