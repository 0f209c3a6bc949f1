"""Records between a plane's producer and a mirror, after the greeting (`mmplane.machines.greeting`). All are bounded.

No content key, name or text of a request is among them: only slots, the bytes in them, and numbers of ranks and
leases. Their version is that of the greeting, `mmplane.machines.records.PROTOCOL`.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from mmplane.arena.label import PLANE_BYTES
from mmplane.core.copies import Copy, Wrote
from mmplane.core.records import Count, Name, Record
from mmplane.machines.records import Pulse, Refused

TOLD_MAX = 2048
"""Entries of one `Told`, of which a longer report is several."""

Rank = Annotated[int, Meta(ge=0, lt=2**32)]
Ranks = Annotated[tuple[Rank, ...], Meta(max_length=TOLD_MAX)]


class Joining(Record, frozen=True, tag="mirror"):
    """Mirror -> producer: its name, for the log."""

    name: Name


class Opened(Record, frozen=True, tag="opened"):
    """Producer -> mirror: the plane that it mirrors."""

    plane: Annotated[bytes, Meta(min_length=PLANE_BYTES, max_length=PLANE_BYTES)]
    length_bytes: Count
    page_bytes: Count
    groups: Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(min_length=1, max_length=4096)]


class Prepared(Record, frozen=True, tag="prepared"):
    """Mirror -> producer: its memory is there, and its ranks can report this many ends of leases at once."""

    ends_max: Count


class Told(Record, frozen=True, tag="told"):
    """Mirror -> producer: what ranks at this mirror did. `ended` are leases by (lease, rank)."""

    joined: Ranks = ()
    ended: Annotated[tuple[tuple[Count, Rank], ...], Meta(max_length=TOLD_MAX)] = ()
    died: Ranks = ()


ToMirror = Opened | Copy | Refused | Pulse
FromMirror = Prepared | Wrote | Told | Pulse
