"""Media that a part brings along as base64."""

from __future__ import annotations

import binascii

import msgspec
import pybase64

from mmplane.core.errors import bad_media
from mmplane.frontend.request.schema import MediaPart
from mmplane.frontend.sources.data_uri import inline_media


def inline(part: MediaPart) -> bytes | None:
    """The bytes that a part brings along; None for an address, or a name alone. Raises RequestError (400)."""
    source = part.source
    if source is None:
        return None
    return _decode_base64(source, part.tag) if part.is_base64 else inline_media(source)


def _decode_base64(source: msgspec.Raw, param: str) -> bytes:
    """The bytes of a JSON string of base64. Raises RequestError (400)."""
    text = memoryview(source)[1:-1]
    try:
        try:
            content: bytes = pybase64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):  # encoders may escape what they like: / is often seen
            content = pybase64.b64decode(msgspec.json.decode(source, type=str), validate=True)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise bad_media(f"{param} is not valid base64", param) from None
    return content
