"""The thread that reads parcels from a rank's stream, and on the leader forwards them.

If a rank stopped reading parcels, requests would wait forever. So when the thread fails, the process ends.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Sequence

from mmplane.delivery.parcels import Parcels
from mmplane.ranks.plan.wake import Wake
from mmplane.wire.stream import receive_frames, send_frame

log = logging.getLogger("mmplane")


class ParcelReader:
    """Reads one stream to its end. `arrived` is for the leader's loop: (request id, forwarded) pairs, in order."""

    def __init__(
        self,
        stream: socket.socket,
        parcels: Parcels,
        wake: Wake,
        *,
        followers: Sequence[socket.socket] = (),
        limit_s: float,
        frame_bytes_max: int,
    ) -> None:
        self._stream = stream
        self._parcels = parcels
        self._wake = wake
        self._followers = followers
        self._limit_s = limit_s
        self._frame_bytes_max = frame_bytes_max
        self.arrived: deque[tuple[int, bool]] = deque()
        self._thread = threading.Thread(target=self._run, name="parcels", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the stream. When this returns, every complete parcel is in `arrived`, and no more will come."""
        self._stream.shutdown(socket.SHUT_RDWR)
        self._thread.join(self._limit_s * (len(self._followers) + 1))
        self._stream.close()

    def _run(self) -> None:
        try:
            receive_frames(self._stream, self._accept, frame_bytes_max=self._frame_bytes_max)
        except Exception:
            # A follower that does not read, a frame that is too long, or no memory for one. No later parcel would
            # arrive either, so every request with a parcel would wait forever.
            log.exception("parcels cannot be read or forwarded; this group of ranks ends and is replaced")
            logging.shutdown()
            os._exit(1)

    def _accept(self, request_id: int, relayed: bool, content: bytearray) -> None:
        if relayed:
            for follower in self._followers:
                send_frame(follower, request_id, content, limit_s=self._limit_s)
        self._parcels.put(request_id, content)
        self.arrived.append((request_id, relayed))
        self._wake.set()
