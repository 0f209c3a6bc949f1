"""Parcels: the inline bytes of requests, from their arrival at a rank until their request is done.

A parcel belongs to the request that it names, and may arrive before or after it, because the stream and the control
link are two sockets. Only the plan decides when a parcel is used or dropped.
"""

from __future__ import annotations

import threading

from mmplane.core.errors import unavailable


class Parcels:
    """A rank's parcels. A reader thread adds them; the loop and the delivery's threads take them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._parcels: dict[int, bytearray] = {}
        self._dropped: set[int] = set()
        """Requests that were dropped before their parcel came. It is dropped on arrival."""
        self._received_bytes = 0

    def put(self, request_id: int, parcel: bytearray) -> None:
        """Add a complete parcel."""
        with self._changed:
            self._received_bytes += len(parcel)
            if request_id in self._dropped:
                self._dropped.remove(request_id)
                return
            self._parcels[request_id] = parcel
            self._changed.notify_all()

    def get(self, request_id: int, limit_s: float) -> memoryview:
        """The request's parcel. Raises RequestError (503) if it does not arrive within `limit_s` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: request_id in self._parcels, limit_s):
                raise unavailable("the request's media did not reach a rank")
            return memoryview(self._parcels[request_id])

    def drop(self, request_id: int) -> None:
        """Drop this request's parcel, now or on arrival. Call it once for each parcel."""
        with self._changed:
            if self._parcels.pop(request_id, None) is None:
                self._dropped.add(request_id)

    def statistics(self) -> dict[str, int]:
        """How many parcels are here, how many will be dropped on arrival, and the bytes of all that ever came."""
        with self._changed:
            held, dropped = len(self._parcels), len(self._dropped)
            return {"held": held, "dropped": dropped, "received_bytes": self._received_bytes}
