"""Records between a server and a machine that has some of its ranks, after the greeting. All are bounded.

Their version is that of the greeting, `mmplane.machines.records.PROTOCOL`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mmplane.core.control import Meeting
from mmplane.core.copies import Copy, Wrote
from mmplane.core.records import MESSAGE_BYTES_MAX, Count, Name, Record
from mmplane.machines.records import Kin, Pulse, Refused

TOKEN_BYTES = 16

Token = Annotated[bytes, Meta(min_length=TOKEN_BYTES, max_length=TOKEN_BYTES)]


class Call(Record, frozen=True, tag="call"):
    """Machine -> server: its name, and its request: the server's settings, or to run ranks of its group."""

    name: Name
    wants: Literal["settings", "ranks"]
    kin: Kin = ()


class Settings(Record, frozen=True, tag="settings"):
    """Server -> machine: its `mmplane.config.Config` as msgpack, which the ranks there need too."""

    config: Annotated[bytes, Meta(max_length=32 * 1024)]


class Begin(Record, frozen=True, tag="begin"):
    """Server -> machine: the group starts. Bring `token` to `bulk_port`, where slots' bytes come from."""

    meeting: Meeting
    bulk_port: Annotated[int, Meta(ge=1, le=65535)]
    token: Token


class Bulk(Record, frozen=True, tag="bulk"):
    """Machine -> server, first record of its second connection."""

    token: Token


class Passed(Record, frozen=True, tag="passed"):
    """Either direction: a message of this many bytes, which follow, for the end of this number."""

    end: Count
    length_bytes: Annotated[int, Meta(ge=1, le=MESSAGE_BYTES_MAX)]


FromServer = Settings | Begin | Refused | Passed | Pulse
FromMachine = Passed | Pulse
FromServerBulk = Copy | Refused | Pulse
FromMachineBulk = Wrote | Pulse
