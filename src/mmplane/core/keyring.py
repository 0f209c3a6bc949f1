"""API keys: who may ask, and as which tenant.

    # a comment
    S3cr3t-of-the-operator-...        a key alone: the operator, who may use every route
    alice:S3cr3t-of-alice-...         a tenant's key: chat and models, and nothing of anybody else

What was written there is forgotten once it is read: a keyring holds digests under a salt of this start. Comparing takes
the same time whichever key matches, and whether one does (hazard S12, CVE-2025-59425).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator

import msgspec
from blake3 import blake3

SALT_BYTES = 32
KEYS_MAX = 1000
"""All of them are compared for each request."""
KEY_CHARACTERS_MAX = 256
WEAK_CHARACTERS = 16
"""A shorter key can be guessed."""

DEFAULT_TENANT = ""
"""The operator, and everybody where there are no keys."""

_LINE = re.compile(r"(?:(?P<tenant>[A-Za-z0-9._-]{1,64}):)?(?P<key>[!-9;-~]+)")


class Caller(msgspec.Struct, frozen=True):
    """Whom a key stands for. The operator is the tenant without a name, as everybody is where there are no keys."""

    tenant: str = DEFAULT_TENANT

    @property
    def operator(self) -> bool:
        """May use every route."""
        return not self.tenant


class Keyring(msgspec.Struct, frozen=True):
    """Digests of keys, and whom each stands for."""

    salt: bytes = b""
    digests: tuple[bytes, ...] = ()
    callers: tuple[Caller, ...] = ()
    weak: int = 0
    """How many keys are shorter than they should be."""

    def __bool__(self) -> bool:
        return bool(self.digests)

    @property
    def tenants(self) -> int:
        """How many different ones there are, the operator included."""
        return len(set(self.callers))

    def caller(self, key: bytes) -> Caller | None:
        """Whom this key stands for; None for nobody. Every digest is compared, in constant time."""
        digest = _digest(key, self.salt)
        found = None
        for each, caller in zip(self.digests, self.callers, strict=True):
            if hmac.compare_digest(each, digest):
                found = caller
        return found


def parse_keyring(text: str, *, salt: bytes) -> Keyring:
    """The keys of these lines. Raises ValueError, which names a line and never what it says."""
    assert len(salt) == SALT_BYTES
    numbers: dict[bytes, int] = {}
    callers: list[Caller] = []
    weak = 0
    for number, tenant, key in _lines(text):
        digest = _digest(key.encode(), salt)
        if digest in numbers:
            raise ValueError(f"API keys: line {number} repeats the key of line {numbers[digest]}")
        numbers[digest] = number
        callers.append(Caller(tenant))
        weak += len(key) < WEAK_CHARACTERS
    if len(callers) > KEYS_MAX:
        raise ValueError(f"API keys: {len(callers)} are too many, at most {KEYS_MAX}")
    return Keyring(salt, tuple(numbers), tuple(callers), weak)


def _lines(text: str) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            found = _LINE.fullmatch(stripped)
            if found is None or len(found["key"]) > KEY_CHARACTERS_MAX:
                raise ValueError(
                    f"API keys: line {number} is neither KEY nor TENANT:KEY "
                    f"(a key: up to {KEY_CHARACTERS_MAX} ASCII characters without spaces and colons)"
                )
            yield number, found["tenant"] or "", found["key"]


def _digest(key: bytes, salt: bytes) -> bytes:
    return blake3(key, key=salt).digest()
