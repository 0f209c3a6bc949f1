"""An accepted connection: one thread sends, another receives, and both end together.

Only then is `lost` called. After that, nothing here reads or writes the memory that was passed for sending and
receiving, whatever the other machine does.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Any

from mmplane.core.records import Record
from mmplane.machines.records import LANES_MAX, Pulse
from mmplane.wire.framed import Framed
from mmplane.wire.link import LinkError

PULSE_SECONDS = 1.0
SILENCE_SECONDS = 4.0
"""A machine that is silent for this long (four pulses) is lost."""
POSTED_MAX = 2 * LANES_MAX
"""Each job is one record in each direction."""


@dataclass(frozen=True)
class _Parcel:
    record: Record
    payload: Sequence[memoryview]
    sent: Callable[[], object]


_PULSE = _Parcel(Pulse(), (), lambda: None)


class Channel:
    """Owns `stream`. The receiving thread calls `hear` with each record, and finally `lost` with the reason."""

    def __init__(self, stream: Framed[Any], *, hear: Callable[[Any], object], lost: Callable[[str], object]) -> None:
        self._stream = stream
        self._hear = hear
        self._lost = lost
        self._outbox: queue.Queue[_Parcel | None] = queue.Queue()
        self._lock = Lock()
        self._ended = False
        self._sender = Thread(target=self._send_all, name="sender", daemon=True)
        self._receiver = Thread(target=self._receive_all, name="receiver", daemon=True)

    def start(self) -> None:
        """Start to send and to receive."""
        self._sender.start()
        self._receiver.start()

    def post(
        self, record: Record, payload: Sequence[memoryview] = (), *, sent: Callable[[], object] = lambda: None
    ) -> None:
        """Send in turn. `sent` is called once `payload` is no longer read, whether it was sent or not."""
        with self._lock:
            full = self._outbox.qsize() >= POSTED_MAX
            if not self._ended and not full:
                self._outbox.put(_Parcel(record, payload, sent))
                return
        if full:
            self.end()
        sent()

    def end(self) -> None:
        """Close the connection; `lost` follows."""
        self._stream.end()

    def _send_all(self) -> None:
        try:
            while (parcel := self._next()) is not None:
                try:
                    self._stream.send(parcel.record, parcel.payload)
                finally:
                    parcel.sent()
        except LinkError:
            self._stream.end()
        finally:
            self._empty()

    def _next(self) -> _Parcel | None:
        try:
            return self._outbox.get(timeout=PULSE_SECONDS)
        except queue.Empty:
            return _PULSE

    def _empty(self) -> None:
        with self._lock:
            self._ended = True
        while not self._outbox.empty():
            parcel = self._outbox.get()
            if parcel is not None:
                parcel.sent()

    def _receive_all(self) -> None:
        why = "an internal error"
        try:
            while True:
                self._hear(self._stream.receive())
        except LinkError as error:
            why = str(error) or type(error).__name__
        finally:
            self._stream.end()
            self._outbox.put(None)
            self._sender.join()
            self._stream.close()
            self._lost(why)
