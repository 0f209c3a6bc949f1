"""Parsing: what the front end asks of the parser about a long body, and what comes back."""

from __future__ import annotations

from mmplane.core.errors import Failure
from mmplane.core.records import Count, Record, Slot

PARSED_BYTES_MAX = 1024 * 1024
"""What is left of a request once its media is out of it: text and options, as JSON."""
PARKED_MAX = 1024
"""Media of one request: so many fit into one message."""


class Parse(Record, frozen=True, tag="parse"):
    """Front end -> parser: `body` holds a request's JSON of `body_bytes`, and room for `PARSED_BYTES_MAX` after it."""

    job_id: Count
    body: Slot
    body_bytes: Count


class Extent(Record, frozen=True):
    """Where one item's encoded bytes lie in the body's slot, and their digest."""

    offset_bytes: Count
    length_bytes: Count
    digest: bytes


class Parsed(Record, frozen=True, tag="parsed"):
    """Parser -> front end: the media lies in the slot, decoded; the rest of the request lies after the body.

    In that rest each item's URL is `parked:N`, where N counts `media`.
    """

    job_id: Count
    rest_bytes: Count
    media: tuple[Extent, ...]


class ParseFailed(Record, frozen=True, tag="parse_failed"):
    """Parser -> front end: what is wrong with the request."""

    job_id: Count
    failure: Failure


class ParserReady(Record, frozen=True, tag="parser_ready"):
    """Parser -> front end: mapped, waiting for bodies."""


ToParser = Parse
FromParser = Parsed | ParseFailed | ParserReady
