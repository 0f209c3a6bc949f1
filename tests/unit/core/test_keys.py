"""A key is the whole digest over everything that changes an item's features, and the same in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import combinations

import pytest
from blake3 import blake3
from hypothesis import given, strategies

from mmplane.core.keys import KEY_BYTES, KEY_VERSION, content_key, digest_parts

PARTS = {"modality": "image", "fingerprint": b"fingerprint", "tenant": "tenant", "media_digest": b"media"}
parts = strategies.lists(strategies.binary(max_size=4), max_size=4)


def test_it_is_blake3_over_the_parts_each_after_its_length() -> None:
    whole = b"".join(
        len(part).to_bytes(8, "little") + part for part in (KEY_VERSION, b"image", b"fingerprint", b"tenant", b"media")
    )
    assert content_key(**PARTS) == blake3(whole).digest()
    assert len(content_key(**PARTS)) == KEY_BYTES == 32


@pytest.mark.parametrize(
    ("one", "other"),
    [([b"ab", b"c"], [b"a", b"bc"]), ([b"ab"], [b"ab", b""]), ([b""], []), ([b"a" * 8, b""], [b"", b"a" * 8])],
)
def test_the_same_bytes_cut_elsewhere_have_another_digest(one: list[bytes], other: list[bytes]) -> None:
    assert digest_parts(one) != digest_parts(other)


@given(one=parts, other=parts)
def test_two_lists_share_a_digest_only_if_they_are_equal(one: list[bytes], other: list[bytes]) -> None:
    assert (digest_parts(one) == digest_parts(other)) == (one == other)


@pytest.mark.parametrize("name", PARTS)
def test_every_part_changes_the_key(name: str) -> None:
    changed = PARTS[name] + type(PARTS[name])(" " if isinstance(PARTS[name], str) else b" ")
    assert content_key(**(PARTS | {name: changed})) != content_key(**PARTS)


@pytest.mark.parametrize(("one", "other"), list(combinations(PARTS, 2)))
def test_no_part_can_play_the_role_of_another(one: str, other: str) -> None:
    """The tenant "x" with the media "y" is not the tenant "y" with the media "x"."""

    def key(first: bytes, second: bytes) -> bytes:
        values = dict.fromkeys(PARTS, b"") | {one: first, other: second}
        return content_key(
            modality=values["modality"].decode(),
            fingerprint=values["fingerprint"],
            tenant=values["tenant"].decode(),
            media_digest=values["media_digest"],
        )

    assert key(b"x", b"y") != key(b"y", b"x")
    assert key(b"x", b"") != key(b"", b"x")


def test_media_may_be_a_view() -> None:
    assert content_key(**(PARTS | {"media_digest": memoryview(b"media")})) == content_key(**PARTS)


def test_every_process_has_the_same_key() -> None:
    """Hazard R11: Python's own hash changes with PYTHONHASHSEED."""
    program = f"from mmplane.core.keys import content_key; print(content_key(**{PARTS!r}).hex())"
    keys = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout.strip()
        for seed in ("0", "1", "4711", "random")
    }
    assert keys == {content_key(**PARTS).hex()}
