"""Checks of a request's head, before any key is checked. Pure."""

from __future__ import annotations

from collections import Counter

from mmplane.core.errors import RequestError

HEAD_BYTES_MAX = 64 * 1024
"""URL and headers together; also trailers, chunk extensions, and anything else between two pieces of a body."""
HEADERS_MAX = 100
URL_BYTES_MAX = 8 * 1024
SINGLE = frozenset(
    b"host authorization content-length transfer-encoding origin sec-fetch-site x-request-id "
    b"traceparent expect upgrade content-type content-encoding".split()
)
"""Headers that affect decisions, here or in a proxy. With duplicates, two readers could see different values."""
LENGTH_DIGITS_MAX = 19


def check_head(version: str, url: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """Raise RequestError unless every HTTP implementation would read this head alike and its body can be read."""
    if len(url) + sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_BYTES_MAX:
        raise too_large_head()
    counts = Counter(name for name, _ in headers)
    if twice := min((name for name in SINGLE if counts[name] > 1), default=None):
        raise malformed(f"there is more than one {twice.decode()} header")
    if version != "1.0" and not counts[b"host"]:
        raise malformed("there is no Host header")
    values = dict(headers)
    length = values.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > LENGTH_DIGITS_MAX:
        raise malformed("content-length is not a number of bytes")
    coding = values.get(b"transfer-encoding")
    if coding is not None and (counts[b"content-length"] or version == "1.0"):
        raise malformed("the body's length is given twice, or in a way that HTTP/1.0 does not support")
    if coding is not None and coding.strip().lower() != b"chunked":
        raise RequestError(501, "unsupported_transfer_encoding", "the only supported transfer encoding is chunked")


def malformed(why: str) -> RequestError:
    """400: HTTP implementations could read this request differently."""
    return RequestError(400, "bad_request", why)


def too_large_head() -> RequestError:
    """431: URL and headers are too long, or there are too many headers."""
    return RequestError(
        431, "headers_too_large", f"more than {HEAD_BYTES_MAX} bytes or {HEADERS_MAX} headers before the body"
    )
