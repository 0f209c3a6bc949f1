"""The protocol between a sidecar and the processes attached to it: docs/protocol.md as types.

A record is a MessagePack array whose first element is its tag. It is one message of a UNIX SEQPACKET socket, of at most
`MESSAGE_BYTES_MAX`. To extend it, append fields with defaults and never change a type; otherwise increase `VERSION`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mmplane.arena.label import PLANE_BYTES
from mmplane.arena.segment import Access
from mmplane.core.errors import Failure
from mmplane.core.records import Count, Item, Layout, Modality, Record, Slot

VERSION = 1
CLAIMS_MAX = 4096
"""Maximum number of leases or holds that one record returns."""
ARGUMENTS_LENGTH_MAX = 2048
"""Maximum characters of a processor's arguments for one item."""

Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
Plane = Annotated[bytes, Meta(min_length=PLANE_BYTES, max_length=PLANE_BYTES)]
Key = Annotated[bytes, Meta(min_length=1, max_length=64)]
Fingerprint = Annotated[bytes, Meta(max_length=32)]
Text = Annotated[str, Meta(max_length=256)]
Claims = Annotated[tuple[Count, ...], Meta(max_length=CLAIMS_MAX)]
Request = Count
"""A number that the client chooses for a request; the answer repeats it."""

Role = Literal["producer", "rank", "janitor"]


class Hello(Record, frozen=True, tag="hello"):
    """Client -> keeper, first record: which process attaches.

    `group`, `rank` and `ranks` are a rank's place: this rank of `ranks` in this group. `fingerprint` is the
    fingerprint that the client expects of the processors (empty: any). `access` is how a rank will map the regions;
    `writable` asks for writable descriptors. `region_bytes` asks for a region that this producer will write itself.
    """

    version: Count
    role: Role
    group: Count = 0
    rank: Count = 0
    ranks: Annotated[int, Meta(ge=1, le=1024)] = 1
    fingerprint: Fingerprint = b""
    access: Access = "shared"
    region_bytes: Count = 0


class Region(Record, frozen=True):
    """One region: `length_bytes` for slots, followed by its label."""

    region: Count
    length_bytes: Count


class Welcome(Record, frozen=True, tag="welcome"):
    """Keeper -> client: attached. The descriptors of `regions` come with the record, in order.

    `own` is the producer's own region, 0 if it has none; that descriptor is writable. `life` is that of a rank's
    group.
    """

    carries = True
    version: Count
    plane: Plane
    fingerprint: Fingerprint
    regions: tuple[Region, ...] = ()
    own: Count = 0
    life: Count = 0


class Refused(Record, frozen=True, tag="refused"):
    """Keeper -> client: not attached, and why; the socket is closed."""

    reason: str


class RegionUp(Record, frozen=True, tag="region_up"):
    """Keeper -> client: there is a new region; its descriptor comes with the record."""

    carries = True
    region: Region


class Wish(Record, frozen=True):
    """Options for an item; 0 uses the checkpoint's value.

    `side_max`: pixels of an image's longer side. `frames_max` and `fps_max`: frames of a clip, and frames per second.
    `embedded`: the media is a safetensors file with the output of the model's vision tower for an image. `arguments`
    are the processor's, as a JSON object with transformers' names; empty: the checkpoint's.
    """

    modality: Modality
    side_max: Count = 0
    frames_max: Count = 0
    fps_max: Annotated[float, Meta(ge=0.0)] = 0.0
    embedded: bool = False
    arguments: Annotated[str, Meta(max_length=ARGUMENTS_LENGTH_MAX)] = ""


class Media(Record, frozen=True):
    """One item's encoded bytes by their blake3 digest, and the options for it. `tenant` salts the content key."""

    wish: Wish
    digest: Digest
    length_bytes: Annotated[int, Meta(ge=1)]
    tenant: Text = ""


class Describe(Record, frozen=True, tag="describe"):
    """Producer -> keeper: what does this media become? Answer: Described, perhaps after NeedBytes.

    The bytes may come with the record, as with Bytes.
    """

    carries = True
    request: Request
    media: Media


class Obtain(Record, frozen=True, tag="obtain"):
    """Producer -> keeper: make this item unless it is there, and hold it. Answer: Holding, perhaps after NeedBytes.

    The bytes may come with the record, as with Bytes.
    """

    carries = True
    request: Request
    media: Media


class NeedBytes(Record, frozen=True, tag="need_bytes"):
    """Keeper -> producer: the bytes of this request's media are needed."""

    request: Request


class Bytes(Record, frozen=True, tag="bytes"):
    """Producer -> keeper: the requested bytes, in a memfd that is sealed against writing and shrinking."""

    carries = True
    request: Request


class Forget(Record, frozen=True, tag="forget"):
    """Producer -> keeper: nobody waits for this request any more. It has no answer."""

    request: Request


class Find(Record, frozen=True, tag="find"):
    """Producer -> keeper: hold what was published under this key, or the item with this content key.

    Answer: Holding, or Failed with status 404.
    """

    request: Request
    key: Key


class Reserve(Record, frozen=True, tag="reserve"):
    """Producer -> keeper: reserve a slot of its own region for writing. Answer: Reserved."""

    request: Request
    length_bytes: Annotated[int, Meta(ge=1)]


class Publish(Record, frozen=True, tag="publish"):
    """Producer -> keeper: the reserved slot has been written; index it under `content_key`. Answer: Holding.

    If another producer was faster, the answer holds that producer's item, and the slot is released.
    """

    request: Request
    item: Item


class Abandon(Record, frozen=True, tag="abandon"):
    """Producer -> keeper: it no longer writes this reserved slot."""

    slot: Slot


class Lease(Record, frozen=True, tag="lease"):
    """Producer -> keeper: lease a held item to a group, for one message. Answer: Leasing.

    With `groups` the message goes to one of the groups 0 to `groups - 1`; the first rank that ends its share
    determines which.
    """

    request: Request
    hold: Count
    group: Count
    groups: Annotated[int, Meta(ge=0, le=1024)] = 0


class Await(Record, frozen=True, tag="await"):
    """Producer -> keeper: answer with Done once every rank of the group is attached and has mapped every region."""

    request: Request
    group: Count


class Report(Record, frozen=True, tag="report"):
    """Client -> keeper: send statistics. Answer: Figures."""

    request: Request


class Release(Record, frozen=True, tag="release"):
    """Producer -> keeper: these holds have ended."""

    holds: Claims


class Revoke(Record, frozen=True, tag="revoke"):
    """Producer or janitor -> keeper: the messages of these leases never reached a rank."""

    leases: Claims


class Mapped(Record, frozen=True, tag="mapped"):
    """Rank -> keeper: these regions are mapped. A region is used for a group only once all its ranks have mapped it."""

    regions: Annotated[tuple[Count, ...], Meta(max_length=128)]


class Ended(Record, frozen=True, tag="ended"):
    """Rank -> keeper: its shares of these leases have ended."""

    leases: Claims


class Bye(Record, frozen=True, tag="bye"):
    """Client -> keeper: it detaches and no longer reads or writes anything. Otherwise its exit ends its claims."""


class Described(Record, frozen=True, tag="described"):
    """Keeper -> producer: what the media becomes."""

    request: Request
    key: Digest
    modality: Modality
    layout: Layout


class Holding(Record, frozen=True, tag="holding"):
    """Keeper -> producer: a hold on this item. `hit`: nothing was made for it."""

    request: Request
    hold: Count
    item: Item
    hit: bool = False


class Reserved(Record, frozen=True, tag="reserved"):
    """Keeper -> producer: a slot to write."""

    request: Request
    slot: Slot


class Leasing(Record, frozen=True, tag="leasing"):
    """Keeper -> producer: the lease of a message to the ranks of this life of the group; 0: of any group."""

    request: Request
    lease: Count
    life: Count


class Done(Record, frozen=True, tag="done"):
    """Keeper -> client: the awaited condition is met."""

    request: Request


class Figures(Record, frozen=True, tag="figures"):
    """Keeper -> client: statistics as a JSON object."""

    request: Request
    json: bytes


class Failed(Record, frozen=True, tag="failed"):
    """Keeper -> client: the request has failed. `failure.status` is the HTTP status for the same failure."""

    request: Request
    failure: Failure


Asked = Describe | Obtain | Find | Reserve | Publish | Lease | Await | Report
"""Records that have an answer."""
ToKeeper = Hello | Asked | Bytes | Forget | Abandon | Release | Revoke | Mapped | Ended | Bye
Answer = Described | Holding | Reserved | Leasing | Done | Figures | Failed
FromKeeper = Welcome | Refused | RegionUp | NeedBytes | Answer
