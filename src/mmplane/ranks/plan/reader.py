"""The thread that takes parcels off a rank's stream, and on the leader passes them on.

A rank that reads no parcels any more would leave requests waiting for ever: when the thread fails, the process ends.
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
    """Reads one stream to its end. `arrived` is for the leader's loop: (request id, passed on), in order."""

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
        """End the stream. What had arrived whole is in `arrived` when this returns, and nothing comes after."""
        self._stream.shutdown(socket.SHUT_RDWR)
        self._thread.join(self._limit_s * (len(self._followers) + 1))
        self._stream.close()

    def _run(self) -> None:
        try:
            receive_frames(self._stream, self._accept, frame_bytes_max=self._frame_bytes_max)
        except Exception:
            # A follower that does not read, a frame that is too long, no memory for one. No later parcel would come
            # either: were this rank to go on, every request with one would wait for ever.
            log.exception("parcels cannot be read or passed on: this group is lost")
            logging.shutdown()
            os._exit(1)

    def _accept(self, request_id: int, relayed: bool, content: bytearray) -> None:
        if relayed:
            for follower in self._followers:
                send_frame(follower, request_id, content, limit_s=self._limit_s)
        self._parcels.put(request_id, content)
        self.arrived.append((request_id, relayed))
        self._wake.set()
