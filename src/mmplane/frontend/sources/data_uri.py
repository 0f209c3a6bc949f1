"""Media in a data URI, decoded from the JSON string in which it came."""

from __future__ import annotations

import binascii
from contextlib import suppress

import msgspec
import pybase64

from mmplane.core.errors import RequestError, bad_media, bad_request

HEAD_BYTES_MAX = 256


def inline_media(url: msgspec.Raw) -> bytes | None:
    """The bytes of a data URI that is still a JSON string, decoded from there; None for an address.

    Raises RequestError (400).
    """
    text = memoryview(url)[1:-1]
    if bytes(text[:5]) == b"data:":
        with suppress(RequestError):  # encoders may escape what they like: +, / and = are all seen
            return decode_data_uri(text)
    plain = text_of(url)
    return decode_data_uri(plain.encode(errors="replace")) if plain.startswith("data:") else None


def text_of(url: msgspec.Raw) -> str:
    """A URL that is still a JSON string, decoded. Raises RequestError (400)."""
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
