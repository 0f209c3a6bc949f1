"""Packing where it pays: what comes back is what went in, and damage is a ValueError."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from mmplane.delivery.compact import SAMPLE_BYTES, Compactor, socket_s_per_byte, unpack

SLOW = 1.0
"""Seconds for a byte: everything that shrinks is worth packing."""
FAST = 1e-15

FLAT = memoryview(bytes(1_000_000))
NOISE = memoryview(random.Random(1).randbytes(1_000_000))


def test_flat_pictures_are_packed_and_noise_is_not() -> None:
    compactor = Compactor(2, send_s_per_byte=SLOW)
    packed = compactor.pack(FLAT)
    assert packed is not None
    assert len(packed) < len(FLAT) // 100
    assert compactor.pack(NOISE) is None


def test_nothing_is_packed_where_sending_is_faster() -> None:
    assert Compactor(2, send_s_per_byte=FAST).pack(FLAT) is None


def test_small_items_are_left() -> None:
    assert Compactor(2, send_s_per_byte=SLOW).pack(FLAT[:SAMPLE_BYTES]) is None


def test_the_rate_is_measured() -> None:
    assert 0 < socket_s_per_byte() < SLOW


@given(st.integers(0, 2**32), st.integers(SAMPLE_BYTES + 1, 300_000), st.integers(1, 200))
def test_a_round_trip_is_exact_and_writable(seed: int, length: int, values: int) -> None:
    content = bytes(random.Random(seed).choices(range(values), k=length))
    packed = Compactor(4, send_s_per_byte=SLOW).pack(memoryview(content))
    if packed is not None:
        back = unpack(memoryview(packed))
        assert back == content
        assert not back.readonly


def test_threads_may_share_a_compactor() -> None:
    compactor = Compactor(4, send_s_per_byte=SLOW)
    contents = [bytes([number]) * 400_000 + bytes(range(256)) * 500 for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        packed = list(pool.map(lambda content: compactor.pack(memoryview(content)), contents))
    assert [unpack(memoryview(each or b"")) for each in packed] == contents


PACKED = Compactor(4, send_s_per_byte=SLOW).pack(FLAT) or b""


@pytest.mark.parametrize("cut", [0, 1, 4, 7, len(PACKED) // 2, len(PACKED) - 1])
def test_what_is_cut_off_is_found_out(cut: int) -> None:
    with pytest.raises(ValueError, match="packed features"):
        unpack(memoryview(PACKED[:cut]))


def test_what_does_not_say_its_size_is_refused() -> None:
    endless = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 1000)
    with pytest.raises(ValueError, match="have no size"):
        unpack(memoryview(endless))


@given(st.binary(max_size=200))
def test_junk_is_a_value_error(junk: bytes) -> None:
    try:
        unpack(memoryview(junk))
    except ValueError:
        return


@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_a_damaged_byte_is_a_value_error_or_other_bytes(at: int, change: int) -> None:
    damaged = bytearray(PACKED)
    damaged[at] ^= change
    try:
        unpack(memoryview(damaged))
    except ValueError:
        return
