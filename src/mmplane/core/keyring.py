"""API keys: which keys are valid, and which tenant each belongs to.

    # a comment
    S3cr3t-of-the-operator-...        a key alone: the operator, who may use every route
    alice:S3cr3t-of-alice-...         a tenant's key: chat and models, and nothing of anybody else

The keys themselves are forgotten after they have been read: a keyring holds digests with a salt that is new at each
start. A comparison takes the same time for every key, valid or not (hazard S12, CVE-2025-59425).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Iterator
from hmac import digest as keyed_digest

import msgspec

SALT_BYTES = 32
KEYS_MAX = 1000
"""All of them are compared for each request."""
KEY_CHARACTERS_MAX = 256
WEAK_CHARACTERS = 16
"""A shorter key can be guessed."""

DEFAULT_TENANT = ""
"""The operator, and everybody if there are no keys."""

_ANY_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_EMPTY = re.compile(rb"\s*(#.*)?", re.DOTALL)
_LINE = re.compile(rb"\s*(?:(?P<tenant>[A-Za-z0-9._-]{1,64}):)?(?P<key>[!-9;-~]+)\s*")


class Caller(msgspec.Struct, frozen=True):
    """The owner of a key. The operator is the tenant without a name; without keys, everybody is the operator."""

    tenant: str = DEFAULT_TENANT

    @property
    def operator(self) -> bool:
        """Whether this caller may use every route."""
        return not self.tenant


class Keyring(msgspec.Struct, frozen=True):
    """The digests of all keys, and the owner of each."""

    salt: bytes = b""
    digests: tuple[bytes, ...] = ()
    callers: tuple[Caller, ...] = ()
    weak: int = 0
    """The number of keys that are shorter than `WEAK_CHARACTERS`."""

    def __bool__(self) -> bool:
        return bool(self.digests)

    @property
    def tenants(self) -> int:
        """The number of different tenants, including the operator."""
        return len(set(self.callers))

    def caller(self, key: bytes) -> Caller | None:
        """The owner of this key, or None. Compares every digest, in constant time."""
        digest = _digest(key, self.salt)
        found = None
        for each, caller in zip(self.digests, self.callers, strict=True):
            if hmac.compare_digest(each, digest):
                found = caller
        return found


def parse_keyring(*texts: str | bytearray | memoryview, salt: bytes) -> Keyring:
    """Parse keys from these lines. Raises ValueError that gives the line's number but never its content.

    Keys in a buffer are not copied, so that the caller can overwrite them.
    """
    assert len(salt) == SALT_BYTES
    numbers: dict[bytes, int] = {}
    callers: list[Caller] = []
    weak = 0
    for number, tenant, key in _lines(texts):
        digest = _digest(key, salt)
        if digest in numbers:
            raise ValueError(f"API keys: line {number} repeats the key of line {numbers[digest]}")
        numbers[digest] = number
        callers.append(Caller(tenant))
        weak += len(key) < WEAK_CHARACTERS
    if len(callers) > KEYS_MAX:
        raise ValueError(f"API keys: {len(callers)} are too many, at most {KEYS_MAX}")
    return Keyring(salt, tuple(numbers), tuple(callers), weak)


def _lines(texts: Iterable[str | bytearray | memoryview]) -> Iterator[tuple[int, str, memoryview]]:
    number = 0
    for text in texts:
        view = memoryview(text.encode() if isinstance(text, str) else text)
        for line in _ANY_LINE.finditer(view):
            number += line.start() < line.end()
            if _EMPTY.fullmatch(view, *line.span()):
                continue
            found = _LINE.fullmatch(view, *line.span())
            if found is None or found.end("key") - found.start("key") > KEY_CHARACTERS_MAX:
                raise ValueError(
                    f"API keys: line {number} is neither KEY nor TENANT:KEY "
                    f"(a key: up to {KEY_CHARACTERS_MAX} ASCII characters without spaces and colons)"
                )
            yield number, (found["tenant"] or b"").decode(), view[slice(*found.span("key"))]


def _digest(key: bytes | memoryview, salt: bytes) -> bytes:
    return keyed_digest(salt, key, "sha256")  # OpenSSL's digest, which overwrites its own copies; blake3 leaves three
