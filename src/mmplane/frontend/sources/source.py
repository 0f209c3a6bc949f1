"""Where a request's media bytes come from: a data URI, a host or a folder that the operator allows."""

from __future__ import annotations

import binascii
from contextlib import suppress

import msgspec
import pybase64

from mmplane.core.errors import RequestError, bad_media, bad_request
from mmplane.frontend.sources.addresses import Allowed
from mmplane.frontend.sources.dial import Resolve
from mmplane.frontend.sources.fetch import Fetcher, FetchStatistics, Grow
from mmplane.frontend.sources.files import Files

HEAD_BYTES_MAX = 256


class Source:
    """Loads media by URL. Hosts and files are off unless the operator names them."""

    def __init__(self, allowed: Allowed, *, media_root: str = "", resolve: Resolve | None = None) -> None:
        self._fetcher = Fetcher(allowed, resolve=resolve)
        self._files = Files(media_root) if media_root else None

    async def load(self, url: str, grow: Grow = lambda _: None, *, tenant: str = "") -> bytes | memoryview:
        """The media's encoded bytes; `grow` reserves memory for what the request did not bring with it.

        Raises RequestError: 400 for what the client did, 413, 502 or 504 for a host.
        """
        if url.startswith("data:"):
            return decode_data_uri(url.encode(errors="replace"))
        if url.startswith("file:") and self._files is not None:
            return await self._files.load(url, grow, tenant=tenant)
        return await self._fetcher.fetch(url, grow, tenant=tenant)

    async def load_json(self, url: msgspec.Raw, grow: Grow = lambda _: None, *, tenant: str = "") -> bytes | memoryview:
        """`load` for a URL that is still a JSON string: a data URI is decoded from there."""
        content = inline_media(url)
        return content if content is not None else await self.load(_text(url), grow, tenant=tenant)

    def statistics(self) -> FetchStatistics:
        """What was fetched."""
        return self._fetcher.statistics()

    async def close(self) -> None:
        """Close pooled connections and the folder."""
        await self._fetcher.close()
        if self._files is not None:
            self._files.close()


def inline_media(url: msgspec.Raw) -> bytes | None:
    """The bytes of a data URI that is still a JSON string, decoded from there; None for an address.

    Raises RequestError (400).
    """
    text = memoryview(url)[1:-1]
    if bytes(text[:5]) == b"data:":
        with suppress(RequestError):  # encoders may escape what they like: +, / and = are all seen
            return decode_data_uri(text)
    plain = _text(url)
    return decode_data_uri(plain.encode(errors="replace")) if plain.startswith("data:") else None


def _text(url: msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(url, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise bad_request("invalid_url", "the image's URL is no text", "image_url") from None


def decode_data_uri(url: memoryview | bytes) -> bytes:
    """The bytes of a base64 data URI (RFC 2397), in ASCII. Raises RequestError (400)."""
    head, comma, _ = bytes(url[:HEAD_BYTES_MAX]).partition(b",")
    if not comma or not head.endswith(b";base64"):
        raise bad_media("the image's data URI is not base64", "image_url")
    try:
        content: bytes = pybase64.b64decode(url[len(head) + 1 :], validate=True)
    except (binascii.Error, ValueError):
        raise bad_media("the image's data URI is not valid base64", "image_url") from None
    return content
