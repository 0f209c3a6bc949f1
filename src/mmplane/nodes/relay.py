"""Passes messages between links of this machine and those of another one, over one connection.

    rank 0 ── SEQPACKET ── relay ══ TCP ══ relay ── SEQPACKET ── rank 1

Each link looks to its two ends as if both were on one machine: messages keep their order and their borders, and when
one end is gone, so is the other one. Descriptors do not pass. When one link ends, all do, because a group is replaced
as a whole.

One thread sends and another one receives, so neither direction waits for the other.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

from mmplane.core.records import MESSAGE_BYTES_MAX
from mmplane.machines.channel import PULSE_SECONDS
from mmplane.machines.records import Pulse
from mmplane.nodes.records import Passed
from mmplane.wire.framed import Framed
from mmplane.wire.link import LinkError, PeerGone, PeerStalled, ProtocolError

_PULSE = Pulse()


class Relay:
    """Owns `stream` and `ends`. When one of them is lost it closes all of them, and then calls `lost` with the reason.

    An end may be full for at most `limit_s` seconds.
    """

    def __init__(
        self, stream: Framed[Any], ends: Sequence[socket.socket], *, limit_s: float, lost: Callable[[str], object]
    ) -> None:
        self._stream = stream
        self._ends = ends
        self._limit_s = limit_s
        self._lost = lost
        self._why = ""
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        for end in ends:
            end.setblocking(False)
        self._sender = Thread(target=self._send_all, name="relay out", daemon=True)
        self._receiver = Thread(target=self._receive_all, name="relay in", daemon=True)

    def start(self) -> None:
        """Start to pass messages."""
        self._sender.start()
        self._receiver.start()

    def end(self) -> None:
        """Close everything; `lost` follows."""
        self._stream.end()

    def _send_all(self) -> None:
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        numbers = {end.fileno(): number for number, end in enumerate(self._ends)}
        for descriptor in numbers:
            poller.register(descriptor, select.POLLIN)
        room = memoryview(bytearray(MESSAGE_BYTES_MAX + 1))
        try:
            while True:
                ready = poller.poll(PULSE_SECONDS * 1000)
                if not ready:
                    self._stream.send(_PULSE)
                for descriptor, _ in ready:
                    if descriptor == self._wake:
                        return
                    number = numbers[descriptor]
                    message = room[: _received(self._ends[number], room)]
                    self._stream.send(Passed(number, len(message)), [message])
        except LinkError as error:
            self._note(error)
            self._stream.end()

    def _receive_all(self) -> None:
        try:
            while True:
                match self._stream.receive():
                    case Pulse():
                        pass
                    case Passed() as passed if passed.end < len(self._ends):
                        message = memoryview(bytearray(passed.length_bytes))
                        self._stream.receive_into(message)
                        self._put(self._ends[passed.end], message)
                    case record:
                        raise ProtocolError(f"{type(record).__name__} between relays")
        except LinkError as error:
            self._note(error)
        finally:
            self._stream.end()
            os.eventfd_write(self._wake, 1)
            self._sender.join()
            self._stream.close()
            for end in self._ends:
                end.close()
            os.close(self._wake)
            self._lost(self._why or "an internal error")

    def _put(self, end: socket.socket, message: memoryview) -> None:
        while True:
            try:
                end.send(message)
                return
            except BlockingIOError:
                poller = select.poll()
                poller.register(end, select.POLLOUT)
                if not poller.poll(self._limit_s * 1000):
                    raise PeerStalled("a process has not read its messages for too long") from None
            except OSError as error:
                raise PeerGone("a process of the group has ended") from error

    def _note(self, error: LinkError) -> None:
        self._why = self._why or str(error) or type(error).__name__


def _received(end: socket.socket, room: memoryview) -> int:
    try:
        length_bytes = end.recv_into(room)
    except OSError as error:
        raise PeerGone("a process of the group has ended") from error
    if not length_bytes:
        raise PeerGone("a process of the group has ended")
    if length_bytes > MESSAGE_BYTES_MAX:
        raise ProtocolError("a message that is too long")
    return length_bytes
