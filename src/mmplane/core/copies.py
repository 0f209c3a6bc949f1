"""The messages about copies of slots: what a machine lacks is sent to it once, and it says when it has written it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from mmplane.core.records import Count, Record, Slot

ARRAYS_MAX = 2048
"""Arrays of one item that may be copied to other machines."""


class Copy(Record, frozen=True, tag="copy"):
    """Producer -> mirror: the bytes of these spans of a slot follow, in this order. Each is (begin, end) in it."""

    slot: Slot
    spans: Annotated[tuple[tuple[Count, Count], ...], Meta(max_length=ARRAYS_MAX)]


class Wrote(Record, frozen=True, tag="wrote"):
    """Mirror -> producer: all bytes of the slot of this generation are where they belong."""

    generation: Count
