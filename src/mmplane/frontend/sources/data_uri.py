"""Media in the request itself: a data URI or plain base64, decoded directly from its JSON string."""

from __future__ import annotations

import binascii

import msgspec
import pybase64

from mmplane.core.errors import bad_media, bad_request
from mmplane.frontend.sources.lenient import decode_base64

HEAD_BYTES_MAX = 256
SCHEME = "data:"


def inline_media(url: msgspec.Raw, param: str = "image_url") -> bytes | None:
    """Decode a data URI from its raw JSON string; None for other URLs.

    Raises RequestError (400).
    """
    text = memoryview(url)[1:-1]
    head = bytes(text[:HEAD_BYTES_MAX]).partition(b",")[0]
    if head.startswith(b"data:") and _says_base64(head) and (content := _strict(text[len(head) + 1 :])) is not None:
        return content
    plain = text_of(url, param)
    return decode_data_uri(plain.encode(errors="replace"), param) if is_data_uri(plain) else None


def inline_base64(source: msgspec.Raw, param: str) -> bytes:
    """Decode base64 from its raw JSON string; a data URI is accepted too. Raises RequestError (400)."""
    if (content := _strict(memoryview(source)[1:-1])) is not None:
        return content
    plain = text_of(source, param)
    if is_data_uri(plain):
        return decode_data_uri(plain.encode(errors="replace"), param)
    return decode_base64(plain.encode(errors="replace"), param, param)


def is_data_uri(url: str) -> bool:
    """Whether this URL contains the media. Clients may write white space before it."""
    return url[:HEAD_BYTES_MAX].lstrip()[: len(SCHEME)].lower() == SCHEME


def text_of(url: msgspec.Raw, param: str = "image_url") -> str:
    """Decode a URL or base64 from its raw JSON string. Raises RequestError (400)."""
    try:
        return msgspec.json.decode(url, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise bad_request("invalid_url", f"{param} is not text", param) from None


def decode_data_uri(url: bytes, param: str = "image_url") -> bytes:
    """Decode a base64 data URI (RFC 2397). Raises RequestError (400)."""
    head, comma, _ = url[:HEAD_BYTES_MAX].partition(b",")
    if not comma or not _says_base64(head):
        raise bad_media("the data URI is not base64", param)
    content = _strict(memoryview(url)[len(head) + 1 :])
    return decode_base64(url[len(head) + 1 :], "the data URI", param) if content is None else content


def _says_base64(head: bytes) -> bool:
    return b"".join(head.split()).lower().endswith(b";base64")


def _strict(text: memoryview) -> bytes | None:
    """Decode strict base64, which almost every client sends; return None for anything else."""
    try:
        content: bytes = pybase64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return content
