"""Parsing: what the front end asks of the parser about a long body, and what comes back."""

from __future__ import annotations

from typing import Literal

from mmplane.core.errors import Failure
from mmplane.core.records import Count, Record, Slot

PARKED_MAX = 1024
"""Media of one request: so many fit into one message."""
REST_BYTES_MAX = 256 * 1024
"""A request as JSON without its texts and its media: options and URLs."""
ROOM_BYTES_MIN = 64 * 1024
ROOM_BYTES_MAX = 1024 * 1024
TOKEN_BYTES = 4
Kind = Literal["chat", "text"]
"""What a body is: a chat, or a text to complete."""


def room_bytes(body_bytes: int, context_tokens: int) -> int:
    """What the parser needs beyond the body for what it makes of it: a token for each byte, within limits."""
    return min(ROOM_BYTES_MAX, ROOM_BYTES_MIN + TOKEN_BYTES * min(body_bytes, context_tokens))


class Parse(Record, frozen=True, tag="parse"):
    """Front end -> parser: `body` begins with a request's JSON of `body_bytes`; all of the slot is the parser's."""

    job_id: Count
    body: Slot
    body_bytes: Count
    kind: Kind = "chat"


class Extent(Record, frozen=True):
    """Where one item's encoded bytes lie in the body's slot, and their digest."""

    offset_bytes: Count
    length_bytes: Count
    digest: bytes


class Parsed(Record, frozen=True, tag="parsed"):
    """Parser -> front end: the media lies in the slot, decoded, then `rest`, then the prompt's tokens (int32).

    `rest` is the request as JSON, without its texts. Each item's URL in it is `parked:N`, where N counts `media`.
    """

    job_id: Count
    rest_at_bytes: Count
    rest_bytes: Count
    prompt_tokens: Count
    media: tuple[Extent, ...]


class ParseFailed(Record, frozen=True, tag="parse_failed"):
    """Parser -> front end: what is wrong with the request."""

    job_id: Count
    failure: Failure


class ParserReady(Record, frozen=True, tag="parser_ready"):
    """Parser -> front end: mapped, waiting for bodies."""


ToParser = Parse
FromParser = Parsed | ParseFailed | ParserReady
