"""A rank's memory is divided without a rest that nobody counts, or the operator is told what is missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmplane.config import MIB
from mmplane.core.plan import Sampling, Submit
from mmplane.core.records import Item, Slot
from mmplane.ranks.plan.blocks import BLOCK_TOKENS
from mmplane.ranks.plan.room import Room, Sizes, divided, left_on_gpu
from mutation import Mutant, check_it_is_killed


def taken(room: Room) -> int:
    return room.tokens * room.sizes.token_bytes + room.states_bytes


@given(
    limit_bytes=st.integers(MIB, 2**40),
    sizes=st.builds(Sizes, st.integers(1, 2**20), st.integers(0, 2**26), st.integers(0, 2**28)),
    running_max=st.integers(1, 512),
    items_max=st.integers(1, 128),
    tenants=st.integers(0, 3),
)
def test_what_is_divided_is_all_that_is_used(
    limit_bytes: int, sizes: Sizes, running_max: int, items_max: int, tenants: int
) -> None:
    try:
        room = divided(limit_bytes, sizes, running_max=running_max, items_max=items_max, tenants=tenants)
    except ValueError as error:
        assert "--kv-bytes" in str(error)  # noqa: PT017
        return
    assert taken(room) <= limit_bytes < taken(room) + BLOCK_TOKENS * sizes.token_bytes
    assert room.blocks > 0
    assert room.states_bytes >= (sizes.sequence_bytes + sizes.item_bytes) * (2 if tenants > 1 else 1)


def test_a_model_without_states_has_blocks_alone() -> None:
    assert divided(100 * MIB, Sizes(1024), running_max=32, items_max=16) == Room(6400, 0, Sizes(1024))


def test_states_get_what_all_seats_need_and_at_most_half() -> None:
    few = divided(100 * MIB, Sizes(1024, MIB), running_max=8, items_max=16)
    assert (few.states_bytes, few.blocks) == (8 * MIB, 92 * 64)
    many = divided(100 * MIB, Sizes(1024, MIB), running_max=512, items_max=16)
    assert (many.states_bytes, many.blocks) == (50 * MIB, 50 * 64)
    images = divided(100 * MIB, Sizes(1024, 0, MIB), running_max=2, items_max=16)
    assert (images.states_bytes, images.blocks) == (32 * MIB, 68 * 64)


@pytest.mark.parametrize(
    ("limit_bytes", "sizes", "tenants", "needed"),
    [
        (MIB, Sizes(MIB), 1, "16.0"),
        (9 * MIB, Sizes(1024, 4 * MIB, MIB), 1, "10.0"),
        (15 * MIB, Sizes(1024, 4 * MIB), 2, "16.0"),
    ],
    ids=["no block", "no state", "one state for two tenants"],
)
def test_too_little_is_refused_with_what_is_needed(limit_bytes: int, sizes: Sizes, tenants: int, needed: str) -> None:
    with pytest.raises(ValueError, match=f"needs at least {needed} MiB: raise --kv-bytes"):
        divided(limit_bytes, sizes, running_max=4, items_max=1, tenants=tenants)
    divided(round(float(needed) * MIB), sizes, running_max=4, items_max=1, tenants=tenants)


def test_what_a_request_keeps() -> None:
    room, item = Room(1, 1, Sizes(1, 10, 1000)), Item(b"", "image", Slot(0, 0, 0, 0), ())
    submit = Submit(1, b"", None, 1, (item, item), ((), ()), Sampling(1, 0.0, 1.0, 0, 3))
    assert room.states_of(submit) == 2030


def test_a_gpu_gives_what_is_left() -> None:
    assert left_on_gpu(100, reserve_bytes=20, embeddings_bytes=5) == 75
    assert left_on_gpu(100, reserve_bytes=99, embeddings_bytes=5) == 0


DIVIDED = test_what_is_divided_is_all_that_is_used


@pytest.mark.parametrize(
    "mutant",
    [
        Mutant("states beside the memory", divided, "(limit_bytes - states_bytes)", "limit_bytes", DIVIDED),
        Mutant("room for no answer", divided, "not blocks or states_bytes < least_bytes", "False", DIVIDED),
        Mutant("tenants", divided, "1 if tenants < 2 else 2", "1", DIVIDED),
        Mutant(
            "the samples of a request",
            Room.states_of,
            " * submit.sampling.samples",
            "",
            test_what_a_request_keeps,
        ),
    ],
    ids=str,
)
def test_mutants(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
