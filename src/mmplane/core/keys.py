"""Content keys: the full digest over everything that changes an item's features (invariant 9).

Every part is preceded by its length, so that two different lists of parts never give the same bytes: ("ab", "c") and
("a", "bc") differ. `hash()` is never used, because it depends on PYTHONHASHSEED.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from blake3 import blake3

from mmplane.core.records import Ask

KEY_VERSION = b"mmplane-key-2"
KEY_BYTES = 32

_encoder = msgspec.msgpack.Encoder()


def digest_parts(parts: Iterable[bytes | memoryview]) -> bytes:
    """Blake3 (32 bytes) over length-prefixed parts; lengths are 8 bytes, little endian."""
    hasher = blake3()
    for part in parts:
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.digest()


def media_digest(media: bytes | memoryview) -> bytes:
    """The blake3 digest (32 bytes) of an item's encoded bytes, which is part of its content key."""
    return blake3(media).digest()


def content_key(ask: Ask, *, fingerprint: bytes, tenant: str, media_digest: bytes) -> bytes:
    """The 32-byte key of one item's features.

    `ask` is its modality and what the request asks for, including the sampling of clips. `fingerprint` covers the
    processor: its class, configuration, backend, versions and the encoding of its output. `tenant` is a salt that
    prevents one tenant from probing another's cache. `media_digest` is over the encoded bytes as sent: two different
    files with the same pixels get two keys, which costs a miss but never gives a wrong answer.
    """
    return digest_parts([KEY_VERSION, _encoder.encode(ask), fingerprint, tenant.encode(), media_digest])
