"""The door: who comes in by the socket, and what each is told first.

A process connects, says Hello and is welcomed or refused. Its user is checked, and a handle of the process behind the
socket is taken before anything is handed out. At most `WAITING_MAX` may stand in the door, for `HELLO_SECONDS` each.
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
"""Before the next attempt to accept, when one has failed."""
ACCEPTED_MAX = 16
"""In one turn of the loop."""
ROOT = 0
"""The user who may attach to anybody's sidecar."""

Admit = Callable[[Hello, Peer, "Caller"], None]
"""Takes a process in. Raises Refusal, and then keeps nothing."""


class Refusal(Exception):
    """Why a process may not attach."""


class Door:
    """Accepts on `listener`. Processes of this user and root come in; of any user if the socket has a `group`."""

    def __init__(self, listener: socket.socket, admit: Admit, *, group: bool) -> None:
        self._listener = listener
        self._admit = admit
        self._group = group
        self._callers: set[Caller] = set()
        self.refused = 0

    def open(self) -> None:
        """Connections are accepted from now on."""
        self._listener.setblocking(False)
        self._listener.listen(WAITING_MAX)
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Nobody is let in any more; who stands in the door is sent away."""
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
            except OSError as error:  # no descriptor is left, for example: whoever stands there would be there at once
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
    """A connection that has not been let in yet."""

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
        """It is let in: from now on these hear of it."""
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
        """It is not let in."""
        self._timer.cancel()
        self._gone(self)
        self.mailbox.close()
