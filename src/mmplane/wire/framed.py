"""Records over a stream from another machine: a length, a msgpack record, and the bytes that it announces.

Rules
- A frame is four bytes of length and a msgpack record of at most `MESSAGE_BYTES_MAX`. A longer one is rejected by its
  length, before anything is allocated. Nothing is unpickled.
- Bytes that belong to a record follow it. The receiver decides where they go (`receive_into`), such as shared memory.
- The socket blocks, so one thread may send while another receives. If there is no progress for longer than `silence_s`,
  the peer counts as dead: peers send something every second.
"""

from __future__ import annotations

import math
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Generic

import msgspec

from mmplane.core.records import MESSAGE_BYTES_MAX, Record
from mmplane.wire.link import PeerGone, PeerStalled, ProtocolError, RecordT, encode
from mmplane.wire.sealed import Sealed

End = socket.socket | Sealed
LENGTH = struct.Struct("!I")
_TIMEVAL = struct.Struct("ll")
PIECE_BYTES = 16 * 1024 * 1024
"""How much is passed to the kernel at a time: progress is noticed at least once per piece."""


class Framed(Generic[RecordT]):
    """Owns a connected stream socket. Receives records of one union, sends any record."""

    def __init__(
        self,
        end: End,
        receives: object,
        *,
        silence_s: float,
        record_bytes_max: int = MESSAGE_BYTES_MAX,
        until_s: float = math.inf,
    ) -> None:
        """Reject records longer than `record_bytes_max`. Everything must be done by `until_s` (monotonic clock)."""
        self.socket = end
        self._decoder: msgspec.msgpack.Decoder[RecordT] = msgspec.msgpack.Decoder(receives)
        self._record_bytes_max = record_bytes_max
        self._until_s = until_s
        if isinstance(end, Sealed):
            end.silence_s = silence_s
        else:
            end.setblocking(True)
            seconds = _TIMEVAL.pack(int(silence_s), int(silence_s % 1 * 1e6))
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                end.setsockopt(socket.SOL_SOCKET, option, seconds)
        if end.family != socket.AF_UNIX:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(silence_s * 1000))

    def send(self, record: Record, payload: Sequence[memoryview] = ()) -> None:
        """Send one record and the bytes that belong to it. Raises PeerGone, PeerStalled."""
        message = encode(record)
        assert len(message) <= MESSAGE_BYTES_MAX, f"a record of {len(message)} bytes"
        pieces = [memoryview(LENGTH.pack(len(message)) + message), *payload]
        for piece in _joined(pieces):
            self._send(piece)

    def receive(self) -> RecordT:
        """Return the next record. Raises PeerGone, PeerStalled, ProtocolError."""
        length = bytearray(LENGTH.size)
        self.receive_into(memoryview(length))
        (length_bytes,) = LENGTH.unpack(length)
        if length_bytes > self._record_bytes_max:
            raise ProtocolError(f"a record of {length_bytes} bytes")
        message = bytearray(length_bytes)
        self.receive_into(memoryview(message))
        try:
            return self._decoder.decode(message)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ProtocolError("not a record of this stream") from error

    def receive_into(self, room: memoryview) -> None:
        """Fill `room` with the next bytes. Raises PeerGone, PeerStalled."""
        while room:
            self._check_time()
            try:
                count = self._receive_some(room)
            except BlockingIOError:
                raise PeerStalled("nothing was received for too long") from None
            except OSError as error:
                raise PeerGone(str(error)) from error
            if count == 0:
                raise PeerGone("the connection was closed")
            room = room[count:]

    def end(self) -> None:
        """End the connection: a thread that sends or receives gets PeerGone. Close it once that has happened."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; the peer sees PeerGone."""
        self.socket.close()

    def _receive_some(self, room: memoryview) -> int:
        if isinstance(self.socket, Sealed):
            return self.socket.recv_into(room)
        return self.socket.recv_into(room[:PIECE_BYTES], 0, socket.MSG_WAITALL)

    def _send(self, piece: memoryview) -> None:
        while piece:
            self._check_time()
            try:
                count = self.socket.send(piece)
            except BlockingIOError:
                raise PeerStalled("the peer has not read for too long") from None
            except OSError as error:
                raise PeerGone(str(error)) from error
            piece = piece[count:]

    def _check_time(self) -> None:
        if time.monotonic() > self._until_s:
            raise PeerStalled("it took too long")


def _joined(pieces: Sequence[memoryview]) -> list[memoryview]:
    """The same bytes with short pieces joined, because each piece is a system call."""
    joined: list[memoryview] = []
    short = bytearray()
    for piece in pieces:
        if len(piece) <= MESSAGE_BYTES_MAX:
            short += piece
            continue
        joined += [memoryview(bytes(short)), piece[:]] if short else [piece]
        short.clear()
    return [*joined, memoryview(short)] if short else joined
