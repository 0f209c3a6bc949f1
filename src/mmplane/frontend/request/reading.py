"""Reads and parses a request's body as it arrives, wherever its bytes are stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from starlette.types import Receive

from mmplane.core.errors import too_large
from mmplane.core.parsing import Kind
from mmplane.core.records import Slot
from mmplane.frontend.body.request import Request
from mmplane.frontend.request.renderer import PROMPT_END, Ids
from mmplane.items.parked import Parked


class ClientGone(Exception):
    """Nobody reads the answer any more."""


@dataclass(frozen=True)
class ParsedBody:
    """A parsed request, its prompt's ids before expansion, and its media in the body's slot."""

    request: Request
    ids: Ids
    parked: tuple[Parked, ...] = ()

    def prompts(self) -> list[ParsedBody]:
        """One prompt per list; a text completion may have several."""
        ends = np.flatnonzero(self.ids == PROMPT_END)
        begins = [0, *(ends + 1).tolist()]
        slices = zip(begins, [*ends.tolist(), len(self.ids)], strict=True)
        return [ParsedBody(self.request, self.ids[begin:end]) for begin, end in slices]


class Body:
    """One request's body, until `release` or the end of the block. `give_back` takes the body's slot."""

    def __init__(self, tenant: str, give_back: Callable[[Slot], object]) -> None:
        self._give_back = give_back
        self.tenant = tenant
        self.content = bytearray()
        self.slot: Slot | None = None
        self.length_bytes = 0

    def release(self) -> None:
        """The request's media is stored elsewhere now, or is not needed. Idempotent."""
        self.content = bytearray()
        slot, self.slot = self.slot, None
        if slot is not None:
            self._give_back(slot)

    def __enter__(self) -> Body:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class BodyReader(ABC):
    """Reads bodies of at most `bytes_max` and parses them."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max

    @abstractmethod
    async def parse(self, body: Body, kind: Kind = "chat") -> ParsedBody:
        """Return the request in `body`. Raises RequestError."""

    @abstractmethod
    def _keep(self, body: Body, chunk: bytes, held_bytes: int) -> None:
        """Append `chunk`; `held_bytes` are reserved for the whole body. Raises RequestError."""

    def _release(self, slot: Slot) -> None:
        """The body in `slot` is no longer needed."""
        raise AssertionError(slot)

    async def read(
        self, receive: Receive, held_bytes: int, *, tenant: str = "", grow: Callable[[int], None] | None = None
    ) -> Body:
        """Read the whole body of at most `held_bytes`. If it may `grow`, reserve as many bytes again each time.

        Raises RequestError: 413 if it is too long, 503, and whatever `receive` and `grow` raise.
        """
        body = Body(tenant, self._release)
        try:
            await self._read(body, receive, held_bytes, grow)
        except BaseException:
            body.release()
            raise
        return body

    async def _read(self, body: Body, receive: Receive, held_bytes: int, grow: Callable[[int], None] | None) -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            end_bytes = body.length_bytes + len(chunk)
            if end_bytes > (self._bytes_max if grow else min(held_bytes, self._bytes_max)):
                raise too_large("the body exceeds this server's limit")
            if grow and end_bytes > held_bytes:
                grown_bytes = min(max(2 * held_bytes, end_bytes), self._bytes_max)
                grow(grown_bytes - held_bytes)
                held_bytes = grown_bytes
            self._keep(body, chunk, held_bytes)
            body.length_bytes = end_bytes
            more = message.get("more_body", False)
