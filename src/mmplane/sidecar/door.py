"""The door: accepts connections to the socket, and welcomes or refuses processes.

A process connects, sends Hello and is welcomed or refused. Before it gets any descriptor, its user is checked and a
handle of the process behind the socket is taken. At most `WAITING_MAX` connections wait in the door, for
`HELLO_SECONDS` each.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable

from mmplane.sidecar.peer import Peer, peer_of
from mmplane.sidecar.records import VERSION, Hello, Refused, ToKeeper
from mmplane.wire.link import SEND_BUFFER_BYTES, Link
from mmplane.wire.mailbox import Mailbox

log = logging.getLogger("mmplane")

WAITING_MAX = 64
HELLO_SECONDS = 5.0
PAUSE_SECONDS = 1.0
"""Seconds before the next attempt to accept after a failure."""
ACCEPTED_MAX = 16
"""Connections accepted in one turn of the loop."""
ROOT = 0
"""The user who may attach to any sidecar."""

Admit = Callable[[Hello, Peer, "Caller"], None]
"""Attaches a process. Raises Refusal, and then keeps nothing."""


class Refusal(Exception):
    """Why a process may not attach."""


class Door:
    """Accepts on `listener`. This user's processes and root may attach, and any user's if the socket has a `group`."""

    def __init__(self, listener: socket.socket, admit: Admit, *, group: bool) -> None:
        self._listener = listener
        self._admit = admit
        self._group = group
        self._callers: set[Caller] = set()
        self.refused = 0

    def open(self) -> None:
        """Start accepting connections."""
        self._listener.setblocking(False)
        self._listener.listen(WAITING_MAX)
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Stop accepting, and close connections that wait in the door."""
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._listener.close()
        for caller in list(self._callers):
            caller.leave()

    def _accept(self) -> None:
        for _ in range(ACCEPTED_MAX):
            try:
                end, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # such as no descriptor left: the loop would report the connection again at once
                log.warning("nobody can attach now: %s", error)
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._listener.fileno())
                loop.call_later(PAUSE_SECONDS, self.open)
                return
            if len(self._callers) >= WAITING_MAX:
                end.close()
                self.refused += 1
                continue
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            self._callers.add(Caller(end, self._heard, self._callers.discard))

    def _heard(self, caller: Caller, hello: Hello) -> None:
        try:
            self._admit(hello, self._checked(caller, hello), caller)
        except Refusal as refusal:
            self.refused += 1
            log.warning("refused to attach a %s: %s", hello.role, refusal)
            caller.mailbox.post(Refused(str(refusal)))
            caller.mailbox.close()
        except BaseException:
            caller.mailbox.close()
            raise

    def _checked(self, caller: Caller, hello: Hello) -> Peer:
        if hello.version != VERSION:
            raise Refusal(f"the sidecar speaks version {VERSION} of the protocol, the client version {hello.version}")
        try:
            peer = peer_of(caller.end)
        except OSError as error:
            raise Refusal(f"there is no handle of the process behind the socket ({error.strerror})") from None
        if peer.uid not in (ROOT, os.geteuid()) and not self._group:
            os.close(peer.pidfd)
            raise Refusal("processes of another user may not attach: see --socket-group")
        return peer


class Caller:
    """A connection that has not been accepted yet."""

    def __init__(
        self, end: socket.socket, heard: Callable[[Caller, Hello], None], gone: Callable[[Caller], None]
    ) -> None:
        self.end = end
        self._heard = heard
        self._gone = gone
        self._timer = asyncio.get_running_loop().call_later(HELLO_SECONDS, self.leave)
        self._receive: Callable[[ToKeeper, list[int]], None] = self._greet
        self._lost = self.leave
        link: Link[ToKeeper] = Link(end, ToKeeper)
        self.mailbox = Mailbox(link, receive=lambda *what: self._receive(*what), lost=lambda: self._lost())

    def become(self, receive: Callable[[ToKeeper, list[int]], None], lost: Callable[[], None]) -> Mailbox:
        """It is accepted: from now on these functions receive its records."""
        self._receive, self._lost = receive, lost
        return self.mailbox

    def _greet(self, record: ToKeeper, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        self._timer.cancel()
        self._gone(self)
        if isinstance(record, Hello):
            self._heard(self, record)
        else:
            self.mailbox.close()

    def leave(self) -> None:
        """It is refused."""
        self._timer.cancel()
        self._gone(self)
        self.mailbox.close()
