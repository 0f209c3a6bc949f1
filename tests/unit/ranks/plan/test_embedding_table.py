"""The leader's table of embeddings, beside a rank that does as it is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmplane.core.plan import EmbeddingPlan, Sampling, Submit
from mmplane.core.records import Item, Slot
from mmplane.ranks.plan import embedding_table
from mmplane.ranks.plan.embedding_table import EVICTIONS_MAX, EmbeddingTable, Look
from mutation import Mutant, check_it_is_killed

LIMIT_BYTES, ROW_BYTES = 40, 2


def rows_of(key: int) -> int:
    return 1 + key % 7


def request(request_id: int, keys: list[int], *, keep: bool = True) -> Submit:
    items = tuple(Item(key.to_bytes(2), "image", Slot(0, 0, 1, 0), ()) for key in keys)
    # The rows of an item may stand in several runs.
    runs = tuple(((0, 1), (3, rows_of(key) - 1)) for key in keys)
    return Submit(request_id, b"", None, 1, items, runs, Sampling(1, 0.0, 1.0, 0, 1), keep=keep)


class Rank:
    """Bytes by key, as plans say. Of a request that is told to keep, the encoder may have failed."""

    def __init__(self) -> None:
        self.kept: dict[bytes, int] = {}

    def take(self, plan: EmbeddingPlan, submits: dict[int, Submit], failing: set[int]) -> None:
        for key in plan.evict:
            self.kept.pop(key, None)
        for request_id, index in plan.keep:
            if request_id not in failing:
                key = submits[request_id].items[index].content_key
                self.kept[key] = ROW_BYTES * rows_of(int.from_bytes(key))


requests = st.lists(
    st.tuples(
        st.sampled_from(["prepare", "prepare", "end", "plan"]),
        st.lists(st.integers(0, 9), max_size=4),
        st.booleans(),
    ),
    max_size=80,
)


@given(requests)
def test_a_rank_that_does_as_it_is_told_stays_within_its_bytes(events: list[tuple[str, list[int], bool]]) -> None:
    table, rank = EmbeddingTable(LIMIT_BYTES, ROW_BYTES), Rank()
    submits: dict[int, Submit] = {}
    running: dict[int, set[bytes]] = {}
    failing: set[int] = set()
    for number, (event, keys, odd) in enumerate([*events, ("plan", [], False)]):
        if event == "prepare":
            submit = submits[number] = request(number, keys, keep=not (odd and number % 2))
            known = set(table._bytes)
            look = table.look(submit)
            kept = {submit.items[index].content_key for owner, index in table._keep if owner == number}
            running[number] = kept
            assert look.whole == (len(kept) == len({item.content_key for item in submit.items}))
            assert {submit.items[index].content_key for index in look.found} <= kept
            assert known & {item.content_key for item in submit.items} <= kept or not submit.keep
            failing |= {number} if odd else set()
        elif event == "end" and running:
            table.release(min(running))
            del running[min(running)]
        elif event == "plan":
            rank.take(table.take_plan(), submits, failing)
            assert sum(rank.kept.values()) <= table.held_bytes <= LIMIT_BYTES
            assert rank.kept.keys() <= table._bytes.keys()
            for number_running, needed in running.items():
                assert needed <= table._bytes.keys(), "a running request needs what was forgotten"
                assert number_running in failing or needed <= rank.kept.keys()
    for request_id in running:
        table.release(request_id)
    assert table.pinned == 0


def test_what_was_used_last_is_evicted_last() -> None:
    table = EmbeddingTable(limit_bytes=ROW_BYTES * 6, row_bytes=ROW_BYTES)
    for number, key in enumerate((1, 8, 15)):  # two rows each: the table is full
        assert table.look(request(number, [key])) == Look((), True)
        table.release(number)
    assert table.look(request(3, [1])) == Look((0,), True)
    table.release(3)
    table.take_plan()
    assert table.look(request(4, [22])) == Look((), True)
    assert table.take_plan() == EmbeddingPlan(evict=((8).to_bytes(2),), keep=((4, 0),))


def test_what_does_not_fit_beside_what_is_pinned_passes() -> None:
    table = EmbeddingTable(limit_bytes=ROW_BYTES * 6, row_bytes=ROW_BYTES)
    assert table.look(request(1, [3, 1])) == Look((), True)  # six rows
    assert table.look(request(2, [8])) == Look((), False)
    assert table.look(request(3, [3])) == Look((0,), True)
    table.release(1)
    assert table.take_plan() == EmbeddingPlan(keep=((1, 0), (1, 1), (3, 0)))
    assert table.look(request(4, [8])) == Look((), True)
    assert table.take_plan() == EmbeddingPlan(evict=((1).to_bytes(2),), keep=((4, 0),))


@pytest.mark.parametrize(("limit_bytes", "row_bytes", "keep"), [(0, 2, True), (100, 0, True), (100, 2, False)])
def test_nothing_is_kept_without_room_rows_or_leave(limit_bytes: int, row_bytes: int, keep: bool) -> None:
    table = EmbeddingTable(limit_bytes, row_bytes)
    for number in (1, 2):
        assert table.look(request(number, [3], keep=keep)) == Look((), row_bytes == 0)
    assert (table.take_plan(), table.held_bytes, table.pinned) == (EmbeddingPlan(), 0, 0)
    assert table.look(request(3, [], keep=keep)).whole


def test_a_plan_names_only_so_many_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_table, "ENTRIES_MAX", 3 * EVICTIONS_MAX)
    table = EmbeddingTable(limit_bytes=10**9, row_bytes=1)
    for number in range(3 * EVICTIONS_MAX):
        table.look(request(number, [number]))
        table.release(number)
    table.take_plan()
    for number in range(3 * EVICTIONS_MAX, 5 * EVICTIONS_MAX):
        assert table.look(request(number, [number])).whole == (number < 4 * EVICTIONS_MAX)
        table.release(number)
    plan = table.take_plan()
    assert len(plan.evict) == len(plan.keep) == EVICTIONS_MAX
    assert len(table._bytes) == 3 * EVICTIONS_MAX


KILLER = test_what_does_not_fit_beside_what_is_pinned_passes
MUTANTS = (
    Mutant("the bound", EmbeddingTable._add, "while over_bytes > 0 or", "while", KILLER),
    Mutant("pins", EmbeddingTable.look, "self._idle.pop(key, None)", "pass", test_what_was_used_last_is_evicted_last),
    Mutant("the last pin", EmbeddingTable.release, "if not self._pins[key]:", "if self._pins[key] < 2:", KILLER),
    Mutant(
        "the number of keys",
        EmbeddingTable._add,
        " or len(self._evict) + len(victims) == EVICTIONS_MAX",
        "",
        test_a_plan_names_only_so_many_keys,
    ),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_table_without_it_is_found_out(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
