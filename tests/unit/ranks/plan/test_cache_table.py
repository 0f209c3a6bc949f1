"""The leader's table of the ranks' caches, beside a rank that does as it is told (hazard R9)."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from mmplane.core.plan import CachePlan, Sampling, Submit
from mmplane.core.records import Enclosed, Item, Layout, Recipe, Slot, Tensor
from mmplane.ranks.plan.cache_table import CHANGES_MAX, CacheTable

LIMIT_BYTES = 20


def size_of(key: int) -> int:
    return 1 + key % 7


def request(request_id: int, keys: list[int], *, cache: bool = True) -> Submit:
    items = tuple(enclosed(key) for key in keys)
    sampling = Sampling(1, 0.0, 1.0, 0, 1)
    return Submit(request_id, b"", None, 1, items, ((),) * len(items), sampling, cache=cache)


def enclosed(key: int) -> Enclosed:
    layout = Layout((Tensor("x", "uint8", (size_of(key),), 0),), (), size_of(key))
    return Enclosed(key.to_bytes(2), Recipe("image", layout), 0, 1, media=True)


requests = st.lists(
    st.tuples(st.sampled_from(["prepare", "admit", "plan"]), st.lists(st.integers(0, 9), max_size=4), st.booleans()),
    max_size=60,
)


@given(requests)
def test_a_rank_that_does_as_it_is_told_has_what_is_to_be_reused(events: list[tuple[str, list[int], bool]]) -> None:
    table = CacheTable(LIMIT_BYTES)
    rank: OrderedDict[bytes, int] = OrderedDict()
    prepared: list[Submit] = []
    waiting: list[Submit] = []
    admitted: list[Submit] = []
    for number, (event, keys, cache) in enumerate(events):
        if event == "admit" and prepared:
            admitted.append(prepared.pop(0))
        elif event == "prepare":
            waiting.append(request(number, keys, cache=cache))
        elif event == "plan":
            for submit in admitted:
                table.keep(submit)
            looked = {submit.request_id: table.look(submit) for submit in waiting}
            plan = table.take_plan()
            brought = {item.content_key: item for submit in admitted for item in submit.items}
            apply(rank, plan, brought)
            assert rank.keys() == table._entries.keys()
            assert sum(rank.values()) == table.held_bytes <= LIMIT_BYTES
            check_reuse(rank, plan, waiting, looked)
            prepared += waiting
            waiting, admitted = [], []
    assert table.take_plan() == CachePlan()


def apply(rank: OrderedDict[bytes, int], plan: CachePlan, brought: dict[bytes, Item | Enclosed]) -> None:
    for key in plan.keep:
        rank[key] = size_of(int.from_bytes(brought[key].content_key))
    for key in plan.evict:
        del rank[key]


def check_reuse(
    rank: OrderedDict[bytes, int], plan: CachePlan, submits: list[Submit], looked: dict[int, tuple[int, ...]]
) -> None:
    named = {submit.request_id: submit for submit in submits}
    assert list(plan.reuse) == [(request_id, index) for request_id, found in looked.items() for index in found]
    for submit in submits:
        expected = (
            [index for index, item in enumerate(submit.items) if item.content_key in rank] if submit.cache else []
        )
        assert list(looked[submit.request_id]) == expected
    for request_id, index in plan.reuse:
        assert named[request_id].items[index].content_key in rank


def test_the_least_recently_used_goes_first() -> None:
    table = CacheTable(size_of(1) + size_of(2) + size_of(3))
    table.keep(request(1, [1, 2, 3]))
    table.take_plan()
    table.look(request(2, [1]))
    table.keep(request(3, [4]))
    assert table.take_plan().evict == tuple(key.to_bytes(2) for key in (2, 3))


def test_what_is_larger_than_the_cache_is_not_kept_and_evicts_nothing() -> None:
    table = CacheTable(6)
    table.keep(request(1, [1, 2]))
    table.take_plan()
    table.keep(request(2, [6]))
    assert table.take_plan() == CachePlan()


def test_what_a_plan_evicts_it_does_not_keep_again() -> None:
    table = CacheTable(size_of(1) + size_of(2))
    table.keep(request(1, [1, 2]))
    table.take_plan()
    table.keep(request(2, [0]))
    table.keep(request(3, [1]))  # there would be room for it once 2 is gone, but a rank evicts after it has kept
    plan = table.take_plan()
    assert (plan.keep, plan.evict) == ((b"\0\0",), (b"\0\1",))


def test_a_plan_names_no_more_changes_than_fit_a_message() -> None:
    table = CacheTable(1_000_000)
    table.keep(request(1, list(range(CHANGES_MAX + 50))))
    assert len(table.take_plan().keep) == CHANGES_MAX


def test_items_in_the_arena_are_not_kept() -> None:
    table = CacheTable(100)
    item = Item(b"key", "image", Slot(0, 0, 4, 0), (Tensor("x", "uint8", (4,), 0),))
    table.keep(Submit(1, b"", None, 1, (item,), ((),), Sampling(1, 0.0, 1.0, 0, 1), cache=True))
    assert table.take_plan() == CachePlan()


def test_without_room_nothing_is_kept() -> None:
    table = CacheTable(0)
    table.keep(request(1, [1]))
    assert table.take_plan() == CachePlan()
