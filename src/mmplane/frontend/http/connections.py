"""HTTP connections with limits, built on uvicorn's protocol for httptools, which has none of them.

    IDLE  -> HEAD     the first byte                        IDLE_SECONDS for it to arrive
    HEAD  -> BODY     the head is complete, and may pass    HEAD_SECONDS, HEAD_BYTES_MAX, HEADERS_MAX, URL_BYTES_MAX
    BODY  -> IDLE     the body is complete                  BODY_SECONDS, BODY_BYTES_PER_S
    any   -> LAST     no further request is accepted        a refusal, `connection: close`, too much was sent ahead
    LAST  -> CLOSING  the last answer is written            LINGER_SECONDS, DISCARD_BYTES_MAX; input is discarded

The phase tells what the next byte belongs to. Requests that a client sends ahead (pipelining) are parsed while an
earlier one is answered, so that the server keeps reading and notices a disconnect. AHEAD_MAX and AHEAD_BYTES_MAX limit
them. Clients must read their answers: one that reads less than SEND_BYTES_PER_S of a waiting answer is disconnected.

A client that stops sending (a half-closed connection) counts as gone, even if it still waits for answers.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import Any

import httptools
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mmplane.core.errors import RequestError, overloaded
from mmplane.frontend.http.crowd import Crowd
from mmplane.frontend.http.head import (
    HEAD_BYTES_MAX,
    HEADERS_MAX,
    URL_BYTES_MAX,
    check_head,
    malformed,
    too_large_head,
)
from mmplane.frontend.http.reply import written

log = logging.getLogger("mmplane")

PIECE_BYTES = 64 * 1024
"""Number of bytes that are parsed at a time. Limits are checked in between, so they are exceeded by at most this much.
"""
AHEAD_BYTES_MAX = 64 * 1024
AHEAD_MAX = 16
DISCARD_BYTES_MAX = 64 * 1024 * 1024
"""A client that sends its whole body before it reads should still see why it was refused."""

IDLE_SECONDS = 30.0
HEAD_SECONDS = 10.0
BODY_SECONDS = 60.0
LOOK_SECONDS = 10.0
"""How often the rate of a body is checked."""
BODY_BYTES_PER_S = 1024
LINGER_SECONDS = 5.0
FROZEN_SECONDS = 1.0
"""If a timer is this late, the loop was not just busy: all processes were frozen."""
SEND_SECONDS = 30.0
"""How often the rate at which an answer is read is checked, while some of it waits."""
SEND_BYTES_PER_S = 4096

_REFUSAL = "mmplane.refusal"


class Phase(Enum):
    """See above."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    LAST = auto()
    CLOSING = auto()


class Connection(HttpToolsProtocol):
    """One connection. `crowd` decides whether it is accepted."""

    def __init__(self, *, crowd: Crowd, **parts: Any) -> None:
        super().__init__(**parts)
        self.app = partial(_answer, self.app)
        self._crowd = crowd
        self._phase = Phase.IDLE
        self._cycles: deque[RequestResponseCycle] = deque()
        """Requests without a complete answer, oldest first."""
        self._loose_bytes = 0
        """Bytes received since the last piece of a body, or the last head."""
        self._ahead_bytes = 0
        self._discarded_bytes = 0
        self._body_bytes = 0
        self._body_ends_s = 0.0
        self._send_timer: asyncio.TimerHandle | None = None
        self._acked = (0.0, 0)

    # Called by the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or answer 503."""
        self._wire = transport
        self._sink = _Lingering(transport, self)
        super().connection_made(self._sink)  # type: ignore[arg-type]
        host = self.client[0] if self.client else ""
        self._leave = partial(self._crowd.leave, host, self.abort)
        if self._crowd.admit(host, self.abort):
            self._await_nothing(IDLE_SECONDS)
        else:
            self._phase = Phase.CLOSING
            transport.write(written(overloaded("the server has too many connections")))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every request of this connection that its client is gone."""
        self._phase = Phase.CLOSING
        self._leave()
        self._unset_keepalive_if_required()
        self._stop_looking()
        for cycle in self._cycles:
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the data, piece by piece."""
        if self._phase is Phase.IDLE:
            self._phase = Phase.HEAD
            if not self._cycles:
                self._arm(HEAD_SECONDS, self._late_head)
        if (self._cycles and self._phase is Phase.HEAD) or (len(self._cycles) > 1 and self._phase is Phase.BODY):
            self._ahead_bytes += len(data)
            if self._ahead_bytes > AHEAD_BYTES_MAX:
                self._take_no_more()
        view = memoryview(data)
        for start in range(0, len(data), PIECE_BYTES):
            if self._phase in (Phase.LAST, Phase.CLOSING):
                self._discard(len(data) - start)
                return
            self._feed(view[start : start + PIECE_BYTES])

    def pause_writing(self) -> None:
        """The client reads more slowly than the server writes."""
        super().pause_writing()
        self._reads()
        self._send_timer = self.loop.call_later(SEND_SECONDS, self._look_at_reading)

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        self._stop_looking()

    def abort(self) -> None:
        """Close the connection now, without sending the rest."""
        self._wire.abort()

    # Called by the parser

    def on_message_begin(self) -> None:
        """A request starts."""
        if self._phase in (Phase.IDLE, Phase.HEAD):
            self._phase = Phase.HEAD
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the URL. Raises RequestError."""
        if self._phase is Phase.HEAD:
            super().on_url(url)
            if len(self.url) > URL_BYTES_MAX:
                raise RequestError(414, "url_too_long", f"the URL has more than {URL_BYTES_MAX} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; a trailer is dropped. Raises RequestError."""
        if self._phase is Phase.HEAD:
            super().on_header(name, value)
            if len(self.headers) > HEADERS_MAX:
                raise too_large_head()

    def on_headers_complete(self) -> None:
        """Start the request in the application, or queue it behind earlier ones. Raises RequestError."""
        if self._phase is not Phase.HEAD:
            return
        if self.parser.get_method() == b"CONNECT":
            raise RequestError(405, "method_not_allowed", "this server is not a proxy")
        if self.parser.should_upgrade():
            return  # `_feed` starts again without it
        check_head(self.parser.get_http_version(), self.url, self.headers)
        self._loose_bytes = 0
        self._phase = Phase.BODY
        super().on_headers_complete()
        self._cycles.append(self.cycle)
        if len(self._cycles) == 1:
            self._await_body()
        else:
            self.flow.resume_reading()  # uvicorn stops reading at a second request and would miss a disconnect
            if len(self._cycles) > AHEAD_MAX:
                self._take_no_more()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._phase is Phase.BODY:
            self._loose_bytes = 0
            self._body_bytes += len(body)
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete; its answer has no deadline here."""
        if self._phase is Phase.BODY:
            super().on_message_complete()
            self._loose_bytes = 0
            self._unset_keepalive_if_required()
            self._phase = Phase.IDLE if self.cycle.keep_alive else Phase.LAST

    # Called for the application's answer

    def on_response_complete(self) -> None:
        """Start the next queued request, or wait for one."""
        self._sink.flush()  # what is in the transport's buffer has a deadline
        self._cycles.popleft()
        self._ahead_bytes = 0
        super().on_response_complete()
        if self._phase is Phase.HEAD:
            self._arm(HEAD_SECONDS, self._late_head)
        elif self._phase is Phase.BODY:
            self._await_body()
        elif self._phase is Phase.IDLE and not self._cycles:
            self._await_nothing(IDLE_SECONDS)

    def timeout_keep_alive_handler(self) -> None:
        """Nothing arrived for a while: close the connection, unless the client still reads an answer."""
        if self.flow.write_paused or (self._wire.get_write_buffer_size() and self._reads()):
            self._arm(SEND_SECONDS, self.timeout_keep_alive_handler)
        else:
            self.abort()

    def _feed(self, piece: bytes | memoryview) -> None:
        self._loose_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(piece[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__  # raised by one of this class's own methods
            if not isinstance(cause, RequestError | httptools.HttpParserError | UnicodeError | None):
                log.error("a request could not be parsed because of an internal error", exc_info=error)
            self._refuse(cause if isinstance(cause, RequestError) else malformed("this is not an HTTP/1 request"))
        if self._loose_bytes > HEAD_BYTES_MAX:
            self._refuse(too_large_head())

    def _ignore_upgrade(self, rest: bytes | memoryview) -> None:
        """Parse the request again without `Upgrade`, because with it the parser does not accept a body."""
        head = [b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        head += [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(b"".join((*head, b"\r\n")))
        self._feed(rest)

    def _refuse(self, refusal: RequestError) -> None:
        """Refuse invalid data: answer with an error, unless an earlier answer is due, and send nothing after it."""
        if self._phase in (Phase.LAST, Phase.CLOSING):
            return
        log.debug("rejected invalid data from a client: %s", refusal.code)
        if len(self._cycles) == 1 and self._cycles[0].more_body:
            self._phase = Phase.LAST
            self._cycles[0].scope[_REFUSAL] = refusal  # type: ignore[literal-required]
            self._cycles[0].message_event.set()
        elif self._cycles:
            self._take_no_more()
        else:
            self.transport.write(written(refusal))
            self.transport.close()

    def _take_no_more(self) -> None:
        """Finish the answers to complete requests, then close."""
        self._phase = Phase.LAST
        self.flow.resume_reading()
        if len(self._cycles) > 1 and self._cycles[-1].more_body:
            self._cycles.pop()
            self.pipeline.popleft()
        self._cycles[-1].keep_alive = False

    def _discard(self, length_bytes: int) -> None:
        self._discarded_bytes += length_bytes
        if self._discarded_bytes > DISCARD_BYTES_MAX:
            self.abort()

    def _close(self) -> None:
        """Close this side, and the rest when the client has closed, or LINGER_SECONDS later.

        Closing both at once would reset the connection if some of the client's bytes were unread, and the answer would
        be lost.
        """
        if self._phase is not Phase.CLOSING and not self._wire.is_closing():
            self._phase = Phase.CLOSING
            self.flow.resume_reading()
            self._wire.write_eof()
            self._await_nothing(LINGER_SECONDS)

    # Deadlines

    def _arm(self, seconds: float, late: Callable[[], None]) -> None:
        """Set the only deadline for the client's data. If this process was frozen meanwhile, it starts again."""
        self._unset_keepalive_if_required()
        due_s = self.loop.time() + seconds

        def act() -> None:
            frozen_s = self.loop.time() - due_s
            if frozen_s < FROZEN_SECONDS:
                late()
            else:
                self._body_ends_s += frozen_s
                self._arm(seconds, late)

        self.timeout_keep_alive_task = self.loop.call_later(seconds, act)

    def _late_head(self) -> None:
        self._refuse(RequestError(408, "head_timeout", "the request's headers did not arrive in time"))

    def _await_body(self) -> None:
        self._body_bytes = 0
        self._body_ends_s = self.loop.time() + BODY_SECONDS
        self._arm(LOOK_SECONDS, self._look_at_body)

    def _look_at_body(self) -> None:
        ours = self.flow.read_paused or self._cycles[0].waiting_for_100_continue
        slow = self._body_bytes < BODY_BYTES_PER_S * LOOK_SECONDS and not ours
        if slow or self.loop.time() >= self._body_ends_s:
            self._refuse(RequestError(408, "body_timeout", "the body did not arrive in time"))
        else:
            self._body_bytes = 0
            self._arm(LOOK_SECONDS, self._look_at_body)

    def _await_nothing(self, seconds: float) -> None:
        if self._wire.get_write_buffer_size():
            self._reads()
        self._arm(seconds, self.timeout_keep_alive_handler)

    def _look_at_reading(self) -> None:
        if self._reads():
            self._send_timer = self.loop.call_later(SEND_SECONDS, self._look_at_reading)
        else:
            self.abort()

    def _stop_looking(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()

    def _reads(self) -> bool:
        """Whether the client has read as much as it should have since the last check."""
        since_s, acked_bytes = self._acked
        self._acked = self.loop.time(), _acked_bytes(self._wire)
        return self._acked[1] - acked_bytes >= SEND_BYTES_PER_S * (self._acked[0] - since_s)


class _Lingering:
    """A transport that is closed in the way that its connection wants.

    What is written in one turn of the loop is sent at its end, together: each system call wakes the client.
    """

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        self._transport = transport
        self._connection = connection
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0

    def write(self, piece: bytes) -> None:
        if not self._pieces:
            self._connection.loop.call_soon(self.flush)
        self._pieces.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes > PIECE_BYTES:
            self.flush()

    def flush(self) -> None:
        pieces, self._pieces, self._waiting_bytes = self._pieces, [], 0
        if pieces and not self._transport.is_closing():
            self._transport.write(b"".join(pieces))

    def close(self) -> None:
        self.flush()
        self._connection._close()

    def is_closing(self) -> bool:
        return self._connection._phase is Phase.CLOSING or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def _answer(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """One request in the application. If its body is refused, `receive` raises the error."""
    cycle: RequestResponseCycle = receive.__self__  # type: ignore[attr-defined]

    async def receive_or_raise() -> Message:
        message = await receive()
        if _REFUSAL in scope:
            raise scope[_REFUSAL]
        return message

    async def send_last(message: Message) -> None:
        if cycle.more_body:  # nobody reads the rest of it
            cycle.keep_alive = False
        await send(message)

    await app(scope, receive_or_raise, send_last)


def _acked_bytes(transport: asyncio.Transport) -> int:
    """Bytes that the client's kernel has acknowledged in total (`tcpi_bytes_acked`)."""
    information = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
    return int(struct.unpack_from("Q", information, 120)[0])
