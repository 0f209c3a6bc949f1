"""The bytes of a slot between machines: the spans that a `Copy` names, straight out of one region and into another."""

from __future__ import annotations

from typing import Any

from mmplane.arena.segment import RegionMapping
from mmplane.core.copies import Copy
from mmplane.wire.framed import Framed
from mmplane.wire.link import ProtocolError


def parts(copy: Copy, region: RegionMapping) -> list[memoryview]:
    """What to send after the record, without copying it. Raises ValueError if the slot is not in the region."""
    view = region.view(copy.slot.offset_bytes, copy.slot.length_bytes)
    return [view[begin:end] for begin, end in copy.spans]


def receive(copy: Copy, region: RegionMapping, stream: Framed[Any]) -> None:
    """Receive the bytes that follow the record. Raises LinkError, ProtocolError if they would not fit the slot."""
    slot = copy.slot
    try:
        view = region.view(slot.offset_bytes, slot.length_bytes)
    except ValueError as error:
        raise ProtocolError(str(error)) from None
    for begin, end in copy.spans:
        if not begin <= end <= slot.length_bytes:
            raise ProtocolError("a span that is not inside its slot")
        stream.receive_into(view[begin:end])
