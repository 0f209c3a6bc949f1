"""HTTP connections: so many and no more, and none that says nothing for ever."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mmplane.core.errors import overloaded
from mmplane.frontend.http.reply import error_object


def bounded(connections_max: int) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, which answers 503 at once when there are that many connections already."""

    class Bounded(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > connections_max:
                transport.write(_REFUSAL)
                transport.close()
            else:  # uvicorn counts silence only between requests; this timer ends with the first byte
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )

    return Bounded


def _refusal() -> bytes:
    content = error_object(overloaded("the server has too many connections"))
    head = f"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: {len(content)}\r\n"
    return head.encode() + b"content-type: application/json\r\nconnection: close\r\n\r\n" + content


_REFUSAL = _refusal()
