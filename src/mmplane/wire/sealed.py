"""A TLS connection with the interface of a blocking socket, for `Framed`: one thread may send while another receives.

OpenSSL's connection serves one thread at a time. So no thread waits inside it: each call takes a lock for one TLS
record, and waits for the socket without the lock.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar

from mmplane.wire.link import PeerGone, PeerStalled

StepT = TypeVar("StepT")


class Sealed:
    """Owns a TLS socket. Calls that wait longer than `silence_s` raise BlockingIOError, like those of a socket."""

    def __init__(self, end: ssl.SSLSocket, silence_s: float) -> None:
        self._end = end
        self._lock = Lock()
        self.silence_s = silence_s

    @classmethod
    def shake(cls, end: socket.socket, context: ssl.SSLContext, *, server_side: bool, until_s: float) -> Sealed:
        """Start TLS on a connected socket, which is closed if this fails. Raises PeerGone, PeerStalled."""
        end.setblocking(False)
        try:
            wrapped = context.wrap_socket(end, server_side=server_side, do_handshake_on_connect=False)
        except OSError as error:
            end.close()
            raise PeerGone(str(error)) from None
        sealed = cls(wrapped, 0.0)
        try:
            sealed._turn(wrapped.do_handshake, until_s)
        except BlockingIOError:
            wrapped.close()
            raise PeerStalled("the TLS handshake took too long") from None
        except OSError as error:
            wrapped.close()
            raise PeerGone(f"the TLS handshake failed: {getattr(error, 'reason', None) or error}") from None
        return sealed

    @property
    def family(self) -> socket.AddressFamily:
        """The socket's address family."""
        return self._end.family

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._end.fileno()

    def getsockname(self) -> Any:
        """The address of this end."""
        return self._end.getsockname()

    def getpeername(self) -> Any:
        """The peer's address."""
        return self._end.getpeername()

    @property
    def certificate(self) -> bytes:
        """The peer's certificate as DER; empty if it sent none."""
        return self._end.getpeercert(binary_form=True) or b""

    def recv_into(self, room: memoryview) -> int:
        """Receive some of the next bytes, at most one TLS record. Returns their number; 0 at the end."""
        return self._turn(lambda: self._end.recv_into(room), self._limit_s())

    def send(self, piece: memoryview) -> int:
        """Send some of `piece`, at most one TLS record. Returns the number of bytes sent."""
        return self._turn(lambda: self._end.send(piece), self._limit_s())

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """The same as a socket's."""
        self._end.setsockopt(level, option, value)

    def shutdown(self, how: int) -> None:
        """The same as a socket's, without a TLS message: a thread that waits sees the end."""
        socket.socket.shutdown(self._end, how)

    def close(self) -> None:
        """Close the socket. Call it once no thread waits any more."""
        self._end.close()

    def _limit_s(self) -> float:
        return time.monotonic() + self.silence_s

    def _turn(self, step: Callable[[], StepT], until_s: float) -> StepT:
        while True:
            try:
                with self._lock:
                    return step()
            except ssl.SSLWantReadError:
                event = select.POLLIN
            except ssl.SSLWantWriteError:
                event = select.POLLOUT
            poller = select.poll()
            poller.register(self._end, event)
            if not poller.poll(max(0.0, until_s - time.monotonic()) * 1000):
                raise BlockingIOError
