"""Parked media: encoded bytes that are already in the front end's region, and are not copied or hashed again."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from mmplane.core.keys import media_digest
from mmplane.core.records import Slot

SCHEME = "parked:"
"""`parked:N` in a parsed request is its Nth parked item. A client that writes it refers to an item of its own request.
"""


@dataclass(frozen=True)
class Parked:
    """One item's encoded bytes in a body's slot. `part` is their position; `whole` is what is leased and released."""

    whole: Slot
    part: Slot
    digest: bytes
    view: memoryview

    def __len__(self) -> int:
        return self.part.length_bytes


def at(source: msgspec.Raw, parked: Sequence[Parked]) -> Parked | None:
    """Return the parked item if a part's source (a JSON string) is `parked:N`."""
    found = _NAME.fullmatch(bytes(memoryview(source)[:_NAME_BYTES_MAX]))
    return parked[int(found.group(1))] if found and int(found.group(1)) < len(parked) else None


_NAME = re.compile(rb'"parked:(\d{1,4})"')
_NAME_BYTES_MAX = 16

MediaBytes = bytes | memoryview | Parked
"""An item's encoded bytes, in this process's memory or in its region."""
LONG_BYTES = 2 * 1024 * 1024
"""Longer media in this process's memory is hashed and copied by a thread: a megabyte takes half a millisecond."""


def view_of(content: MediaBytes) -> bytes | memoryview:
    """The bytes, without a copy."""
    return content.view if isinstance(content, Parked) else content


async def digest_of(content: MediaBytes) -> bytes:
    """Return their digest; that of parked media is already known."""
    if isinstance(content, Parked):
        return content.digest
    if len(content) > LONG_BYTES:
        return await asyncio.to_thread(media_digest, content)  # which releases the interpreter's lock
    return media_digest(content)


def bytes_of(content: MediaBytes) -> bytes:
    """Return bytes that may be kept for longer than the slot: parked ones are copied."""
    return bytes(view_of(content))
