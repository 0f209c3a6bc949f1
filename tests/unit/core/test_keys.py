"""A key is the whole digest over everything that changes an item's features, and the same in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import combinations
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given, strategies

from mmplane.core.keys import KEY_BYTES, KEY_VERSION, content_key, digest_parts, media_digest
from mmplane.core.records import Ask

ASK = Ask("image")
PARTS: dict[str, Any] = {"fingerprint": b"fingerprint", "tenant": "tenant", "media_digest": b"digest"}
parts = strategies.lists(strategies.binary(max_size=4), max_size=4)


def test_it_is_blake3_over_the_parts_each_after_its_length() -> None:
    whole = b"".join(
        len(part).to_bytes(8, "little") + part
        for part in (KEY_VERSION, msgspec.msgpack.encode(ASK), b"fingerprint", b"tenant", b"digest")
    )
    assert content_key(ASK, **PARTS) == blake3(whole).digest()
    assert len(content_key(ASK, **PARTS)) == KEY_BYTES == 32


@pytest.mark.parametrize(
    "other",
    [
        Ask("video"),
        Ask("image", side_max=512),
        Ask("image", frames_max=8),
        Ask("image", fps_max=1.5),
        Ask("image", embedded=True),
        Ask("image", arguments='{"max_pixels":6272}'),
    ],
)
def test_what_is_asked_changes_the_key(other: Ask) -> None:
    assert content_key(other, **PARTS) != content_key(ASK, **PARTS)


def test_media_are_digested_whole_and_may_be_a_view() -> None:
    assert media_digest(memoryview(b"media")) == media_digest(b"media") == blake3(b"media").digest()
    assert len({media_digest(media) for media in (b"media", b"medium", b"")}) == 3


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
    assert content_key(ASK, **(PARTS | {name: changed})) != content_key(ASK, **PARTS)


@pytest.mark.parametrize(("one", "other"), list(combinations(PARTS, 2)))
def test_no_part_can_play_the_role_of_another(one: str, other: str) -> None:
    """The tenant "x" with the media "y" is not the tenant "y" with the media "x"."""

    def key(first: bytes, second: bytes) -> bytes:
        values = dict.fromkeys(PARTS, b"") | {one: first, other: second}
        return content_key(
            ASK,
            fingerprint=values["fingerprint"],
            tenant=values["tenant"].decode(),
            media_digest=values["media_digest"],
        )

    assert key(b"x", b"y") != key(b"y", b"x")
    assert key(b"x", b"") != key(b"", b"x")


def test_every_process_has_the_same_key() -> None:
    """Hazard R11: Python's own hash changes with PYTHONHASHSEED."""
    program = "from mmplane.core.keys import content_key; from mmplane.core.records import Ask; "
    program += f"print(content_key(Ask('image'), **{PARTS!r}).hex())"
    keys = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        ).stdout.strip()
        for seed in ("0", "1", "4711", "random")
    }
    assert keys == {content_key(ASK, **PARTS).hex()}
