"""What a server and a media machine say to each other. All of it is bounded, and none of it names memory of the other.

The first record, `Challenge`, keeps its form in all protocols, so that two versions can tell each other apart.
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
"""Of one of the checkpoint's JSON files: tokenizers have some ten million bytes."""

Secret = Annotated[bytes, Meta(min_length=SECRET_BYTES, max_length=SECRET_BYTES)]
Text = Annotated[str, Meta(max_length=512)]
Kin = Annotated[tuple[tuple[Name, Annotated[str, Meta(max_length=128)]], ...], Meta(max_length=64)]
"""What must be equal on both machines, as (what, value)."""


class Challenge(Record, frozen=True, tag="challenge"):
    """Server -> machine, at once: which protocol it speaks, and 32 random bytes."""

    protocol: Count
    nonce: Secret


class Response(Record, frozen=True, tag="response"):
    """Machine -> server: random bytes of its own, and proof that it has the key."""

    protocol: Count
    nonce: Secret
    proof: Secret


class Accepted(Record, frozen=True, tag="accepted"):
    """Server -> machine: proof that it has the key too."""

    proof: Secret


class Refused(Record, frozen=True, tag="refused"):
    """Server -> machine: why not. It may try again later, `outdated` once it has asked again what to load."""

    reason: Text
    outdated: bool = False


class Hello(Record, frozen=True, tag="hello"):
    """Machine -> server: who it is and what it wants: what to load (`assignment`), or jobs, `lanes` at a time."""

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
    """Server -> machine: jobs follow."""


class Pulse(Record, frozen=True, tag="pulse"):
    """Either -> other, every second in which there is nothing else to say."""


class Work(Record, frozen=True, tag="work"):
    """Server -> machine: make the features of the `media_bytes` that follow.

    Instead of bytes, `looked` may be the job of the `Look` with which they came.
    """

    job_id: Count
    recipe: Recipe
    media_bytes: Count
    looked: Count = 0


class Look(Record, frozen=True, tag="look"):
    """Server -> machine: what does the clip or sound of `media_bytes` that follows become?"""

    job_id: Count
    ask: Ask
    media_bytes: Count


class Looked(Record, frozen=True, tag="looked"):
    """Machine -> server: how to make it."""

    job_id: Count
    recipe: Recipe


class Made(Record, frozen=True, tag="made"):
    """Machine -> server: they follow, array after array without padding. Times in milliseconds."""

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
