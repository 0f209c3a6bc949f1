"""Records between a server and a media machine. All of them are bounded, and none refers to memory of the other.

The first record, `Challenge`, keeps its form in all versions of the protocol, so that two versions recognise each
other.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mmplane.core.errors import Failure
from mmplane.core.records import Ask, Count, Name, Recipe, Record

PROTOCOL = 1
SECRET_BYTES = 32
LANES_MAX = 96
FILES_MAX = 16
FILE_BYTES_MAX = 128 * 1024 * 1024
"""Maximum size of one JSON file of the checkpoint: tokenizers have some ten million bytes."""

Secret = Annotated[bytes, Meta(min_length=SECRET_BYTES, max_length=SECRET_BYTES)]
Text = Annotated[str, Meta(max_length=512)]
Files = dict[str, bytes]
"""The checkpoint's JSON files by name."""
Kin = Annotated[tuple[tuple[Name, Annotated[str, Meta(max_length=128)]], ...], Meta(max_length=64)]
"""Facts that must be equal on both machines, as (name, value)."""


class Challenge(Record, frozen=True, tag="challenge"):
    """Server -> machine, first record: the version of its protocol, and 32 random bytes."""

    protocol: Count
    nonce: Secret


class Response(Record, frozen=True, tag="response"):
    """Machine -> server: its own random bytes, and proof that it has the key."""

    protocol: Count
    nonce: Secret
    proof: Secret


class Accepted(Record, frozen=True, tag="accepted"):
    """Server -> machine: proof that it has the key too."""

    proof: Secret


class Refused(Record, frozen=True, tag="refused"):
    """Server -> machine: refused, and why. It may try again later; if `outdated`, after asking again what to load."""

    reason: Text
    outdated: bool = False


class Hello(Record, frozen=True, tag="hello"):
    """Machine -> server: its name and its request: what to load (`assignment`), or jobs, `lanes` at a time."""

    name: Name
    wants: Literal["assignment", "jobs"]
    lanes: Annotated[int, Meta(ge=0, le=LANES_MAX)] = 0
    kin: Kin = ()


class Assignment(Record, frozen=True, tag="assignment"):
    """Server -> machine: what to load. `files` are names and lengths; their bytes follow in this order.

    `settings` are fields of `mmplane.config.Config`, as msgpack.
    """

    settings: Annotated[bytes, Meta(max_length=16 * 1024)]
    files: Annotated[tuple[tuple[Name, Annotated[int, Meta(ge=0, le=FILE_BYTES_MAX)]], ...], Meta(max_length=FILES_MAX)]


class Welcome(Record, frozen=True, tag="welcome"):
    """Server -> machine: accepted, jobs follow."""


class Pulse(Record, frozen=True, tag="pulse"):
    """Either direction, every second if nothing else is sent."""


class Work(Record, frozen=True, tag="work"):
    """Server -> machine: make the features of the `media_bytes` that follow.

    Instead of bytes, `looked` may be the job of the `Look` that brought them.
    """

    job_id: Count
    recipe: Recipe
    media_bytes: Count
    looked: Count = 0


class Look(Record, frozen=True, tag="look"):
    """Server -> machine: examine the clip or sound of `media_bytes` that follows."""

    job_id: Count
    ask: Ask
    media_bytes: Count


class Looked(Record, frozen=True, tag="looked"):
    """Machine -> server: how to make it."""

    job_id: Count
    recipe: Recipe


class Made(Record, frozen=True, tag="made"):
    """Machine -> server: the features follow, array after array without padding. Times are in milliseconds."""

    job_id: Count
    decode_ms: float
    transform_ms: float
    bytes_written: Count


class NotMade(Record, frozen=True, tag="not_made"):
    """Machine -> server: the item's own error."""

    job_id: Count
    failure: Failure


class Declined(Record, frozen=True, tag="declined"):
    """Machine -> server: it has no room for this item, or is ending."""

    job_id: Count


class Died(Record, frozen=True, tag="died"):
    """Machine -> server: the process that worked on this item ended, or took too long."""

    job_id: Count


FromServer = Welcome | Refused | Assignment | Work | Look | Pulse
FromMachine = Hello | Made | Looked | NotMade | Declined | Died | Pulse
