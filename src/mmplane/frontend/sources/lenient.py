"""Base64 as some clients send it: wrapped, percent-encoded, without padding. Only such texts pay the extra cost."""

from __future__ import annotations

import binascii
import string

import pybase64

from mmplane.core.errors import RequestError, bad_media

WHITE = string.whitespace.encode()
ALPHABET = (string.ascii_letters + string.digits + "+/").encode()
ESCAPES = {
    b"%2B": b"+",
    b"%2b": b"+",
    b"%2F": b"/",
    b"%2f": b"/",
    b"%3D": b"=",
    b"%3d": b"=",
    b"%0A": b"\n",
    b"%0a": b"\n",
    b"%0D": b"\r",
    b"%0d": b"\r",
    b"%09": b"\t",
    b"%20": b" ",
}
"""The percent-encoding (RFC 2397, RFC 3986) of characters that occur in base64."""


def decode_base64(text: bytes, what: str, param: str) -> bytes:
    """Decode a text in base64.

    White space, percent-encoding and missing padding are accepted. Raises RequestError (400), which names the first
    invalid character and its position, counted from 0.
    """
    plain = text
    if b"%" in plain:
        for escape, meant in ESCAPES.items():
            plain = plain.replace(escape, meant)
    plain = plain.translate(None, WHITE).rstrip(b"=")
    try:
        content: bytes = pybase64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _refusal(text, what, param) from None
    return content


def _refusal(text: bytes, what: str, param: str) -> RequestError:
    for escape, meant in ESCAPES.items():
        text = text.replace(escape, meant * len(escape))  # positions are those in the client's text
    wrong = text.rstrip(b"=" + WHITE).translate(None, ALPHABET + WHITE)[:1]
    if not wrong:
        return bad_media(f"{what} is not valid base64: it is cut off", param)
    before, _, after = text.partition(wrong)
    character = (wrong + after[:3]).decode(errors="ignore")[:1]
    return bad_media(f"{what} is not valid base64: {character!a} at position {len(before)}", param)
