"""The server's side of a greeting: clients connect, prove the key within a few seconds, and send their request.

Every porter listens on the same socket. A free porter accepts any connection. A porter that has a machine accepts only
connections that no other porter has accepted for a while, and tells them that the server has all its machines.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from threading import BoundedSemaphore, Thread
from typing import Any, Generic, TypeVar

from mmplane.core.records import Record
from mmplane.machines.greeting import GREETING_BYTES_MAX, Greeting, Refusal, Side, State, ToServer
from mmplane.machines.records import SECRET_BYTES, Refused
from mmplane.wire.framed import End, Framed
from mmplane.wire.link import LinkError
from mmplane.wire.sealed import Sealed

log = logging.getLogger("mmplane")

GREETING_SECONDS = 5.0
HELLO_BYTES_MAX = 16 * 1024
STRANGERS_MAX = 16
"""Concurrent greetings; other connections wait to be accepted."""
PATIENCE_SECONDS = 2.0
"""How long a connection waits before a porter that already has a machine accepts it."""
TOLD_SECONDS = 1.0
"""Seconds between two log lines about refused connections."""
RequestT = TypeVar("RequestT", bound=Record)


class Door(Generic[RequestT]):
    """Accepts machines. `admit` is called in a thread for each `request`; it then owns the socket, or raises.

    With `tls` clients must use TLS.
    """

    def __init__(
        self,
        listener: socket.socket,
        key: bytes,
        admit: Callable[[RequestT, End], object],
        tls: ssl.SSLContext | None = None,
        *,
        request: type[RequestT],
    ) -> None:
        self._request = request
        self._tls = tls
        self._listener = listener
        self._key = key
        self._admit = admit
        self._places = BoundedSemaphore(STRANGERS_MAX)
        self._knocking_since_s: float | None = None
        self._told_s = float("-inf")
        listener.setblocking(False)

    def fileno(self) -> int:
        """The listening socket's descriptor, for a selector."""
        return self._listener.fileno()

    def look(self, *, free: bool) -> None:
        """Accept waiting connections."""
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        if not poller.poll(0):
            self._knocking_since_s = None
            return
        now_s = time.monotonic()
        since_s = self._knocking_since_s = self._knocking_since_s or now_s
        if free or now_s - since_s >= PATIENCE_SECONDS:
            self._knocking_since_s = None
            self._open()

    def _open(self) -> None:
        if not self._places.acquire(blocking=False):
            return
        try:
            end, address = self._listener.accept()
        except OSError:  # another porter was faster, or the client has disconnected
            self._places.release()
            return
        Thread(target=self._greet, args=(end, address[0]), name="greeting", daemon=True).start()

    def _greet(self, stranger: socket.socket, address: str) -> None:
        end: End = stranger
        try:
            if self._tls is not None:
                until_s = time.monotonic() + GREETING_SECONDS
                end = Sealed.shake(stranger, self._tls, server_side=True, until_s=until_s)
            self._admit(greeted(end, self._key, self._request), end)
        except Refusal as refusal:
            self._tell(address, str(refusal))
            with suppress(LinkError):
                _stream(end, self._request).send(Refused(str(refusal)[:500], refusal.outdated))
            end.close()
        except (LinkError, OSError) as error:
            self._tell(address, str(error) or type(error).__name__)
            end.close()
        finally:
            self._places.release()

    def _tell(self, address: str, why: str) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s >= TOLD_SECONDS:
            self._told_s = now_s
            log.warning("%s did not join: %s", address, why)


def greeted(end: End, key: bytes, request: type[RequestT]) -> RequestT:
    """Return the `request` of a client that has the key. Raises Refusal, LinkError."""
    until_s = time.monotonic() + GREETING_SECONDS
    stream = _stream(end, ToServer, GREETING_BYTES_MAX, until_s)
    greeting = Greeting(Side.SERVER, key, os.urandom(SECRET_BYTES))
    challenge = greeting.begin()
    assert challenge is not None
    stream.send(challenge)
    while greeting.state is not State.OPEN:
        answer = greeting.hear(stream.receive())
        if answer is not None:
            stream.send(answer)
    asked: RequestT = _stream(end, request, HELLO_BYTES_MAX, until_s).receive()
    return asked


def _stream(end: End, receives: object, bytes_max: int = HELLO_BYTES_MAX, until_s: float | None = None) -> Framed[Any]:
    until_s = time.monotonic() + GREETING_SECONDS if until_s is None else until_s
    return Framed(end, receives, silence_s=GREETING_SECONDS, record_bytes_max=bytes_max, until_s=until_s)
