"""What the head of a request may be, looked at before any key is asked for. Pure."""

from __future__ import annotations

from collections import Counter

from mmplane.core.errors import RequestError

HEAD_BYTES_MAX = 64 * 1024
"""URL and headers together; also trailers, chunk extensions, and what else may come between two pieces of a body."""
HEADERS_MAX = 100
URL_BYTES_MAX = 8 * 1024
SINGLE = frozenset(
    b"host authorization content-length transfer-encoding origin sec-fetch-site x-request-id "
    b"traceparent expect upgrade content-type content-encoding".split()
)
"""Headers that decide something, here or in a proxy: two of one name are a way to show each reader another."""
LENGTH_DIGITS_MAX = 19


def check_head(version: str, url: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """Raises RequestError unless everybody would read this head in the same way, and its body can be read."""
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
        raise malformed("content-length is no number of bytes")
    coding = values.get(b"transfer-encoding")
    if coding is not None and (counts[b"content-length"] or version == "1.0"):
        raise malformed("the body's length is given twice, or in a way that HTTP/1.0 does not know")
    if coding is not None and coding.strip().lower() != b"chunked":
        raise RequestError(501, "unsupported_transfer_encoding", "the only supported transfer encoding is chunked")


def malformed(why: str) -> RequestError:
    """400: this is not a request that everybody would read in the same way."""
    return RequestError(400, "bad_request", why)


def too_large_head() -> RequestError:
    """431: URL and headers are too long, or there are too many."""
    return RequestError(
        431, "headers_too_large", f"more than {HEAD_BYTES_MAX} bytes or {HEADERS_MAX} headers before the body"
    )
