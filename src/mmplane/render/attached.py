"""A render process as a client of its own sidecar. It attaches when the first clip or sound arrives."""

from __future__ import annotations

import asyncio

from mmplane.core.errors import RequestError, bad_media, internal, overloaded, too_large, unavailable
from mmplane.core.records import Ask, Layout
from mmplane.embed.client import Client
from mmplane.embed.errors import BadMedia, Full, Lost, NotAttached, SidecarError, TooLarge, Unprofiled


class Attached:
    """Attaches to the sidecar at `path`, and to its successor when it has ended."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._client: Client | None = None
        self._attaching = asyncio.Lock()

    async def layout(self, media: bytes | memoryview, ask: Ask, *, tenant: str) -> Layout:
        """What an item becomes. A worker examines it only once, however often it is requested. Raises RequestError."""
        options = {"side_max": ask.side_max, "frames": ask.frames_max, "fps": ask.fps_max}
        try:
            client = await self._attached()
            found = await client.alayout(media, modality=ask.modality, options=options, tenant=tenant)
        except SidecarError as error:
            raise _refusal(error) from None
        return Layout(found.tensors, found.expansion, 0)

    async def _attached(self) -> Client:
        async with self._attaching:
            if self._client is None:
                self._client = await asyncio.to_thread(Client, self._path)
        return self._client


def _refusal(error: SidecarError) -> RequestError:
    """The error for this process's own clients."""
    match error:
        case BadMedia() | Unprofiled():
            return bad_media(str(error))
        case TooLarge():
            return too_large(str(error))
        case Full():
            return overloaded(str(error))
        case Lost() | NotAttached():
            return unavailable("clips and sounds cannot be examined now")
    return internal("the sidecar failed to examine this item")
