"""API keys: what a file may say, who a key stands for, and that all are compared whichever matches."""

from __future__ import annotations

import hmac
from typing import Any

import msgspec
import pytest

from mmplane.core import keyring as module
from mmplane.core.keyring import KEYS_MAX, SALT_BYTES, Caller, Keyring, parse_keyring

SALT = bytes(SALT_BYTES)
TEXT = """
# the operator's, and two tenants'
operators-long-secret-key
alice:alices-long-secret-key==
  alice:alices-next-secret-key
bob:sk-short
"""


def keyring(text: str = TEXT, salt: bytes = SALT) -> Keyring:
    return parse_keyring(text, salt=salt)


def test_whom_a_key_stands_for() -> None:
    found = keyring()
    assert found.caller(b"operators-long-secret-key") == Caller("")
    assert found.caller(b"alices-long-secret-key==") == Caller("alice")
    assert found.caller(b"alices-next-secret-key") == Caller("alice")
    assert found.caller(b"sk-short") == Caller("bob")
    assert [found.tenants, found.weak, len(found.digests)] == [3, 1, 4]
    assert Caller("").operator
    assert not Caller("alice").operator


@pytest.mark.parametrize("key", [b"", b"operators", b"operators-long-secret-key ", b"alice:sk-short", b"SK-SHORT"])
def test_whom_no_key_stands_for(key: bytes) -> None:
    assert keyring().caller(key) is None


def test_no_keys_are_no_keyring() -> None:
    assert not keyring("\n# nothing\n")
    assert not Keyring()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("good-key\nal ice:key", 2),
        ("alice:", 1),
        ("a:b:c", 1),
        ("x" * 300, 1),
        ("schlüssel", 1),
        ("good-key\n\nbob:good-key", 3),
    ],
)
def test_a_wrong_line_is_named_and_not_shown(text: str, line: int) -> None:
    with pytest.raises(ValueError, match=rf"line {line}\b") as refused:
        keyring(text)
    assert "good-key" not in str(refused.value)
    assert "al ice" not in str(refused.value)


def test_there_is_a_limit() -> None:
    with pytest.raises(ValueError, match="too many"):
        keyring("\n".join(f"key-number-{number}" for number in range(KEYS_MAX + 1)))


def test_nothing_of_a_key_is_kept() -> None:
    kept = msgspec.msgpack.encode(keyring())
    for part in (b"secret", b"sk-short"):
        assert part not in kept
    assert keyring(salt=b"x" * SALT_BYTES).digests != keyring().digests


def compared(monkeypatch: pytest.MonkeyPatch, key: bytes) -> int:
    """How many digests `caller` compares in constant time for this key."""
    count = 0

    def counting(one: bytes, other: bytes) -> bool:
        nonlocal count
        count += 1
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(module, "hmac", type("Hmac", (), {"compare_digest": staticmethod(counting)}))
    module.Keyring.caller(keyring(), key)
    return count


def check_all_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in (b"operators-long-secret-key", b"sk-short", b"nobody's"):
        assert compared(monkeypatch, key) == 4, key


def test_all_are_compared_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    check_all_are_compared(monkeypatch)


def stops_at_the_first(self: Keyring, key: bytes) -> Caller | None:
    digest = module._digest(key, self.salt)
    for each, caller in zip(self.digests, self.callers, strict=True):
        if module.hmac.compare_digest(each, digest):
            return caller
    return None


def looks_it_up(self: Keyring, key: bytes) -> Caller | None:
    return dict(zip(self.digests, self.callers, strict=True)).get(module._digest(key, self.salt))


@pytest.mark.parametrize("mutant", [stops_at_the_first, looks_it_up])
def test_a_keyring_that_can_be_timed_is_found_out(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keyring, "caller", mutant)
    with pytest.raises(AssertionError):
        check_all_are_compared(monkeypatch)
