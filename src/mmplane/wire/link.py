"""One end of a control channel: a UNIX SEQPACKET socket where each message is one record, with optional descriptors.

Rules
- A message is a msgpack record of at most `MESSAGE_BYTES_MAX`, asserted on both sides. A truncated one is fatal.
- Descriptors are accepted only with a record that may carry some. Those that come with any other record are closed on
  arrival, so that a peer cannot exhaust the receiver's descriptors.
- Nothing is unpickled. A message that is not of the expected union raises `ProtocolError` and ends the link.
- `send_nowait` and `receive_nowait` never block. `send` waits for room up to a limit; then the peer counts as dead.
- The supervisor makes links in pairs, and children inherit or receive them. They have no address to connect to, so the
  peer is always a process of this server.
"""

from __future__ import annotations

import array
import os
import select
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

import msgspec

from mmplane.core.records import MESSAGE_BYTES_MAX, Record

DESCRIPTORS_MAX = 96
DESCRIPTORS_BYTES = socket.CMSG_SPACE(DESCRIPTORS_MAX * array.array("i").itemsize)
SEND_BUFFER_BYTES = 1024 * 1024
SLICE_SECONDS = 0.5
RecordT = TypeVar("RecordT", bound=Record)
_TRUNCATED = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)  # as an int, because Python's flags take a microsecond each time

_encoder = msgspec.msgpack.Encoder()


class LinkError(Exception):
    """The link to the peer cannot be used any more."""


class PeerGone(LinkError):
    """The peer closed its end or died."""


class PeerStalled(LinkError):
    """The peer's socket stayed full for longer than the limit."""


class ProtocolError(LinkError):
    """The peer sent something that is not a record of this link."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, non-blocking, with room for a burst."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return ends


class Link(Generic[RecordT]):
    """Sends any record, receives records of one union type."""

    def __init__(self, end: socket.socket | int, receives: object) -> None:
        self._socket = socket.socket(fileno=end) if isinstance(end, int) else end
        self._socket.setblocking(False)
        self._decoder: msgspec.msgpack.Decoder[RecordT] = msgspec.msgpack.Decoder(receives)
        self._room = memoryview(bytearray(MESSAGE_BYTES_MAX + 1))
        """A buffer for all messages: `recvmsg` would allocate this much each time, and most messages have a hundred
        bytes."""

    def fileno(self) -> int:
        """The socket's descriptor, for a selector."""
        return self._socket.fileno()

    def send_nowait(self, record: Record, descriptors: Sequence[int] = ()) -> bool:
        """Send now, or return False when the peer's socket is full. Raises PeerGone."""
        return self.send_bytes_nowait(encode(record), descriptors)

    def send_bytes_nowait(self, message: bytes, descriptors: Sequence[int] = ()) -> bool:
        """The same as `send_nowait`, for an encoded record (the same plan goes to every follower)."""
        assert len(message) <= MESSAGE_BYTES_MAX, f"a control message of {len(message)} bytes"
        assert len(descriptors) <= DESCRIPTORS_MAX, f"{len(descriptors)} descriptors with one message"
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._socket.sendmsg([message], ancillary)
        except BlockingIOError:
            return False
        except OSError as error:
            raise PeerGone from error
        return True

    def send(self, record: Record, descriptors: Sequence[int] = (), *, limit_s: float) -> None:
        """Send, waiting at most `limit_s` seconds for room. Raises PeerGone, PeerStalled."""
        self.send_bytes(encode(record), descriptors, limit_s=limit_s)

    def send_bytes(self, message: bytes, descriptors: Sequence[int] = (), *, limit_s: float) -> None:
        """The same as `send`, for an encoded record."""
        if self.send_bytes_nowait(message, descriptors):
            return
        for slice_s in _slices(limit_s):
            _wait(self._socket, select.POLLOUT, slice_s)
            if self.send_bytes_nowait(message, descriptors):
                return
        raise PeerStalled

    def receive_nowait(self) -> tuple[RecordT, list[int]] | None:
        """The next record and its descriptors, or None if there is none yet. Raises PeerGone, ProtocolError."""
        flag = socket.MSG_CMSG_CLOEXEC
        try:
            length, ancillary, flags, _ = self._socket.recvmsg_into([self._room], DESCRIPTORS_BYTES, flag)
        except BlockingIOError:
            return None
        except OSError as error:
            raise PeerGone from error
        descriptors = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
        if not length and not ancillary:
            raise PeerGone
        try:
            if flags & _TRUNCATED or length > MESSAGE_BYTES_MAX:
                raise ProtocolError("truncated message")
            record = self._decoder.decode(self._room[:length])
        except (ProtocolError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            _close(descriptors)
            raise ProtocolError("not a record of this link") from error
        if descriptors and not record.carries:
            _close(descriptors)
            return record, []
        return record, list(descriptors)

    def receive(self, *, limit_s: float) -> tuple[RecordT, list[int]] | None:
        """The next record, waiting at most `limit_s` seconds; None if none arrived."""
        for slice_s in _slices(limit_s):
            if (received := self.receive_nowait()) is not None:
                return received
            _wait(self._socket, select.POLLIN, slice_s)
        return self.receive_nowait()

    def close(self) -> None:
        """Close this end; the peer sees PeerGone."""
        self._socket.close()


def encode(record: Record) -> bytes:
    """Encode a record for any link of this version."""
    return _encoder.encode(record)


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _slices(limit_s: float) -> Iterator[float]:
    """Split a wait into short slices. If all processes are frozen together, at most one slice has passed on waking."""
    started_s = time.monotonic()
    passed_s = 0.0
    while passed_s < limit_s:
        slice_s = min(SLICE_SECONDS, limit_s - passed_s)
        yield slice_s
        now_s = time.monotonic()
        passed_s += min(slice_s, now_s - started_s)
        started_s = now_s


def _wait(end: socket.socket, event: int, limit_s: float) -> None:
    poller = select.poll()
    poller.register(end, event)
    poller.poll(max(0.0, limit_s) * 1000)
