"""Loads a request's media: from a data URI, or from a host or a folder that the operator allows."""

from __future__ import annotations

import msgspec

from mmplane.frontend.sources.addresses import Allowed
from mmplane.frontend.sources.data_uri import decode_data_uri, inline_media, is_data_uri, text_of
from mmplane.frontend.sources.dial import Resolve
from mmplane.frontend.sources.fetch import Fetcher, FetchStatistics, Grow
from mmplane.frontend.sources.files import Files


class Source:
    """Loads media by URL. Hosts and files are off unless the operator names them."""

    def __init__(self, allowed: Allowed, *, media_root: str = "", resolve: Resolve | None = None) -> None:
        self._fetcher = Fetcher(allowed, resolve=resolve)
        self._files = Files(media_root) if media_root else None

    async def load(self, url: str, grow: Grow = lambda _: None, *, tenant: str = "") -> bytes | memoryview:
        """Return the media's encoded bytes; `grow` reserves memory for bytes that were not part of the request.

        Raises RequestError: 400 for errors of the client, 413, 502 or 504 for errors of a host.
        """
        if is_data_uri(url):
            return decode_data_uri(url.encode(errors="replace"))
        if url.startswith("file:") and self._files is not None:
            return await self._files.load(url, grow, tenant=tenant)
        return await self._fetcher.fetch(url, grow, tenant=tenant)

    async def load_json(self, url: msgspec.Raw, grow: Grow = lambda _: None, *, tenant: str = "") -> bytes | memoryview:
        """`load` for a URL as a raw JSON string: a data URI is decoded directly from it."""
        content = inline_media(url)
        return content if content is not None else await self.load(text_of(url), grow, tenant=tenant)

    def statistics(self) -> FetchStatistics:
        """Statistics of fetches."""
        return self._fetcher.statistics()

    async def close(self) -> None:
        """Close pooled connections and the folder."""
        await self._fetcher.close()
        if self._files is not None:
            self._files.close()
