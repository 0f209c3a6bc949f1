"""Where a request's media bytes come from: a data URI, or a host that the operator allows."""

from __future__ import annotations

import asyncio
import binascii
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import msgspec
import pybase64

from mmplane.core.errors import RequestError, bad_media, bad_request, too_large

FETCH_SECONDS = 10.0
HEAD_BYTES_MAX = 256
MEDIA_BYTES_MAX = 64 * 1024 * 1024


class Source:
    """Loads media by URL. Addresses are off unless their host is on the operator's list; redirects are not followed."""

    def __init__(self, hosts: tuple[str, ...]) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._client = httpx.AsyncClient(
            follow_redirects=False, trust_env=False, timeout=FETCH_SECONDS, headers={"accept-encoding": "identity"}
        )

    async def load(self, url: str) -> bytes:
        """The media's encoded bytes. Raises RequestError: 400 for what the client did, 502 or 504 for a host."""
        return decode_data_uri(url.encode(errors="replace")) if url.startswith("data:") else await self._fetch(url)

    async def load_json(self, url: msgspec.Raw) -> bytes:
        """`load` for a URL that is still a JSON string: a data URI is decoded from there."""
        text = memoryview(url)[1:-1]
        if bytes(text[:5]) == b"data:":
            with suppress(RequestError):  # encoders may escape what they like: +, / and = are all seen
                return decode_data_uri(text)
        try:
            return await self.load(msgspec.json.decode(url, type=str))
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise bad_request("invalid_url", "the image's URL is no text", "image_url") from None

    async def close(self) -> None:
        """Close pooled connections."""
        await self._client.aclose()

    async def _fetch(self, url: str) -> bytes:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            raise bad_request("invalid_url", "the image's URL cannot be parsed", "image_url") from None
        if parts.scheme not in ("http", "https"):
            raise bad_request("invalid_url", "an image's URL must be a data URI or http(s)", "image_url")
        if host.lower() not in self._hosts or "\\" in url or "@" in parts.netloc:
            raise bad_request("host_not_allowed", "this server does not fetch images from that host", "image_url")
        try:
            async with asyncio.timeout(FETCH_SECONDS), self._client.stream("GET", url) as response:
                return await _body(response)
        except (httpx.TimeoutException, TimeoutError):
            raise RequestError(504, "fetch_timeout", "the image's host did not answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL):
            raise RequestError(502, "fetch_failed", "the image could not be fetched") from None


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


async def _body(response: httpx.Response) -> bytes:
    if response.status_code >= 500:
        raise RequestError(502, "fetch_failed", "the image's host failed")
    if response.status_code != 200:
        raise bad_media(f"the image's host answered {response.status_code}", "image_url")
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > MEDIA_BYTES_MAX:
            raise too_large("the image is too large", "image_url")
    return bytes(content)
