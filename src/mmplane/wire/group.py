"""The links inside a group of ranks: between the leader and each follower one for records and one for parcels."""

from __future__ import annotations

from mmplane.wire.link import pair
from mmplane.wire.stream import stream_pair


class GroupLinks:
    """All ends, by the rank that inherits them. Close it once every rank has its own. Raises OSError."""

    def __init__(self, size: int) -> None:
        self._pairs = [pair() for _ in range(1, size)]
        self._streams = [stream_pair() for _ in range(1, size)]

    def of(self, rank: int) -> dict[str, int]:
        """The descriptors of one rank, by name."""
        if rank:
            return {"leader": self._pairs[rank - 1][1].fileno(), "parcels": self._streams[rank - 1][1].fileno()}
        followers = {f"follower{i}": ours.fileno() for i, (ours, _) in enumerate(self._pairs, 1)}
        return followers | {f"parcels{i}": ours.fileno() for i, (ours, _) in enumerate(self._streams, 1)}

    def close(self) -> None:
        """Give back this process's copies."""
        for ours, theirs in (*self._pairs, *self._streams):
            ours.close()
            theirs.close()
