"""A TLS connection that `Framed` takes for a blocking socket, so that one thread may send while another receives.

OpenSSL's connection serves one thread at a time. So nobody waits inside: each call takes a lock for one record of TLS,
and waits for the socket without it.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from mmplane.wire.link import PeerGone, PeerStalled

StepT = TypeVar("StepT")


class Sealed:
    """Owns a TLS socket. Calls that wait for longer than `silence_s` raise BlockingIOError, as a socket's do."""

    def __init__(self, end: ssl.SSLSocket, silence_s: float) -> None:
        self._end = end
        self._lock = Lock()
        self.silence_s = silence_s

    @classmethod
    def shake(cls, end: socket.socket, context: ssl.SSLContext, *, server_side: bool, until_s: float) -> Sealed:
        """Seal a connected socket, which is gone when this fails. Raises PeerGone, PeerStalled."""
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
            raise PeerStalled("no TLS was spoken in time") from None
        except OSError as error:
            wrapped.close()
            raise PeerGone(f"no TLS: {getattr(error, 'reason', None) or error}") from None
        return sealed

    @property
    def family(self) -> socket.AddressFamily:
        """Of the socket."""
        return self._end.family

    @property
    def certificate(self) -> bytes:
        """The peer's, as DER; empty if it showed none."""
        return self._end.getpeercert(binary_form=True) or b""

    def recv_into(self, room: memoryview) -> int:
        """Some of what comes next, at most one record of TLS; 0 at the end."""
        return self._turn(lambda: self._end.recv_into(room), self._limit_s())

    def send(self, piece: memoryview) -> int:
        """How much of it was taken, at most one record of TLS."""
        return self._turn(lambda: self._end.send(piece), self._limit_s())

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """As a socket's."""
        self._end.setsockopt(level, option, value)

    def shutdown(self, how: int) -> None:
        """As a socket's, without a word of TLS: whoever waits in another thread sees the end."""
        socket.socket.shutdown(self._end, how)

    def close(self) -> None:
        """Once nobody waits any more."""
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
