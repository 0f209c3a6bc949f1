"""Records: what crosses a process boundary. Bounded, inert, and readable by any process of the same version.

A record can be copied, sent five times or dropped: it owns nothing (invariant 6). Lifetime is leases, held by the
arena's owner. Evolution: append fields with defaults, never retype one.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

MESSAGE_BYTES_MAX = 64 * 1024
"""No control message is larger; longer token lists lie in a slot."""

PROMPT_INLINE_BYTES_MAX = 16 * 1024
"""A prompt's token ids (4 bytes each) travel in the record up to here, above it in a slot."""

Name = Annotated[str, msgspec.Meta(max_length=64)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of all records: immutable, encoded as a MessagePack array."""


class Slot(Record, frozen=True):
    """A run of one region's bytes. `generation` tells this use of the bytes from any other."""

    region: Count
    offset_bytes: Count
    length_bytes: Count
    generation: Count


class Tensor(Record, frozen=True):
    """One array inside a slot: C order, `offset_bytes` from the slot's start. `dtype`: NumPy's name or `bfloat16`."""

    name: Name
    dtype: Name
    shape: tuple[int, ...]
    offset_bytes: Count


class Layout(Record, frozen=True):
    """What one item becomes: known from its size alone, before any pixel is decoded.

    `tensors[0]` holds the features; further ones are small companions (grids, sizes). `expansion` is what replaces the
    item's placeholder in the prompt, as (token id, repetitions) runs. `length_bytes` is the slot that holds it all,
    `decoded_bytes` what a worker needs beside it while it decodes the item.
    """

    tensors: tuple[Tensor, ...]
    expansion: tuple[tuple[int, int], ...]
    length_bytes: Count
    decoded_bytes: Count = 0


class Item(Record, frozen=True, tag="item"):
    """One materialised image, clip or sound in the arena, as the ranks see it."""

    content_key: bytes
    modality: Name
    slot: Slot
    tensors: tuple[Tensor, ...]


class Enclosed(Record, frozen=True, tag="enclosed"):
    """One item whose bytes travel inline, in its request's parcel: `length_bytes` from `offset_bytes` there.

    They are encoded media that a rank will materialise, or finished features, which may be packed with zstd. `tensors`
    are the features either way, and their offsets count from the start of the (unpacked) features.
    """

    content_key: bytes
    modality: Name
    offset_bytes: Count
    length_bytes: Count
    tensors: tuple[Tensor, ...]
    media: bool
    packed: bool = False
