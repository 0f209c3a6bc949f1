"""The messages between the front end and the parser."""

from __future__ import annotations

from typing import Literal

from mmplane.core.errors import Failure
from mmplane.core.records import Count, Record, Slot

PARKED_MAX = 1024
"""The maximum number of media in one request; more would not fit into one message."""
REST_BYTES_MAX = 256 * 1024
"""The maximum size of a request as JSON without its texts and media: options and URLs."""
ROOM_BYTES_MIN = 64 * 1024
ROOM_BYTES_MAX = 1024 * 1024
TOKEN_BYTES = 4
Kind = Literal["chat", "text"]
"""The kind of a body: a chat, or a text to complete."""


def room_bytes(body_bytes: int, context_tokens: int) -> int:
    """How much room the parser needs after the body for its results: one token for each byte, within limits."""
    return min(ROOM_BYTES_MAX, ROOM_BYTES_MIN + TOKEN_BYTES * min(body_bytes, context_tokens))


class Parse(Record, frozen=True, tag="parse"):
    """Front end -> parser: `body` begins with `body_bytes` of JSON. The parser may write to the whole slot."""

    job_id: Count
    body: Slot
    body_bytes: Count
    kind: Kind = "chat"


class Extent(Record, frozen=True):
    """Where one item's encoded bytes are in the body's slot, and their digest."""

    offset_bytes: Count
    length_bytes: Count
    digest: bytes


class Parsed(Record, frozen=True, tag="parsed"):
    """Parser -> front end: the slot contains the decoded media, then `rest`, then the prompt's tokens (int32).

    `rest` is the request as JSON without its texts. The URL of each item in it is `parked:N`, where N is its index in
    `media`.
    """

    job_id: Count
    rest_at_bytes: Count
    rest_bytes: Count
    prompt_tokens: Count
    media: tuple[Extent, ...]


class ParseFailed(Record, frozen=True, tag="parse_failed"):
    """Parser -> front end: the request is invalid, and why."""

    job_id: Count
    failure: Failure


class ParserReady(Record, frozen=True, tag="parser_ready"):
    """Parser -> front end: it has mapped the region and waits for bodies."""


ToParser = Parse
FromParser = Parsed | ParseFailed | ParserReady
