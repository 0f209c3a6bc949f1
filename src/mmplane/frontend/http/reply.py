"""HTTP responses, and the format of errors in them."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from mmplane.core.errors import RequestError, error_object

JSON = [(b"content-type", b"application/json")]
CHALLENGES = [(b"www-authenticate", scheme + b' realm="mmplane"') for scheme in (b"Bearer", b"Basic")]


class Reply:
    """One response on ASGI's `send`, which records whether it has started. `headers` are sent with every response."""

    def __init__(self, send: Send, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self._send = send
        self._headers = headers
        self._started = False
        self._events = False

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send status and headers of a streamed response."""
        self._started = self._events = True
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self._headers]})

    async def chunk(self, content: bytes) -> None:
        """Send a piece of a streamed response."""
        await self._send({"type": "http.response.body", "body": content, "more_body": True})

    async def end(self) -> None:
        """End a streamed response."""
        await self._send({"type": "http.response.body", "body": b""})

    async def whole(self, status: int, headers: list[tuple[bytes, bytes]], content: bytes) -> None:
        """Send a response in one piece."""
        self._started = True
        length = (b"content-length", str(len(content)).encode())
        await self._send(
            {"type": "http.response.start", "status": status, "headers": [*headers, *self._headers, length]}
        )
        await self._send({"type": "http.response.body", "body": content})

    async def error(self, error: RequestError) -> None:
        """Send OpenAI's error object: as a response, or as the last event of a started stream."""
        content = error_object(error)
        if self._events:
            await self.chunk(b"data: " + content + b"\n\n")
            await self.end()
        elif not self._started:
            headers = list(JSON)
            if error.retry_after_s is not None:
                headers.append((b"retry-after", str(error.retry_after_s).encode()))
            if error.status == 401:
                headers += CHALLENGES
            await self.whole(error.status, headers, content)


def written(refusal: RequestError) -> bytes:
    """Return a whole answer for a request that no application has seen. The connection ends with it."""
    content = error_object(refusal)
    head = f"content-type: application/json\r\ncontent-length: {len(content)}\r\nconnection: close\r\n"
    if refusal.retry_after_s is not None:
        head += f"retry-after: {refusal.retry_after_s}\r\n"
    return STATUS_LINE[refusal.status] + head.encode() + b"\r\n" + content
