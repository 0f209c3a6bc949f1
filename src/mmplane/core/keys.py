"""Content keys: the whole digest over everything that changes an item's features (invariant 9).

Every part is preceded by its length, so that no two different lists of parts share one byte stream: ("ab", "c") and
("a", "bc") differ. `hash()` is never used: it changes with PYTHONHASHSEED.
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
    """Blake3 (32 bytes) over an item's encoded bytes: what of them goes into a content key."""
    return blake3(media).digest()


def content_key(ask: Ask, *, fingerprint: bytes, tenant: str, media_digest: bytes) -> bytes:
    """The 32-byte name of one item's features.

    `ask` is its modality and what the request wants of it, sampling included. `fingerprint` covers the processor: its
    class, configuration, backend, versions and the encoding of its output. `tenant` is the salt that keeps one tenant
    from probing another's cache. `media_digest` is over the encoded bytes as sent: equal pixels in two different files
    get two keys, which costs a miss and never a wrong answer.
    """
    return digest_parts([KEY_VERSION, _encoder.encode(ask), fingerprint, tenant.encode(), media_digest])
