"""A chunked list is a sorted list."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from hypothesis import given, strategies
from profile_ci import CI

from mmplane.arena import ordered
from mmplane.arena.ordered import CHUNK_MAX, Ordered

values = strategies.integers(0, 40)


@CI
@given(strategies.lists(values, max_size=120), values)
def test_agrees_with_a_sorted_list(changes: list[int], asked: int) -> None:
    chunk_max, ordered.CHUNK_MAX = ordered.CHUNK_MAX, 4
    try:
        made, model = Ordered(0), {0}
        for value in changes:
            if value in model:
                made.remove(value)
                model.remove(value)
            else:
                made.add(value)
                model.add(value)
            in_order = sorted(model)
            assert list(made) == in_order
            assert made.last == (in_order[-1] if in_order else None)
            below, after = bisect_right(in_order, asked), bisect_left(in_order, asked)
            assert made.at_most(asked) == (in_order[below - 1] if below else None)
            assert made.at_least(asked) == (in_order[after] if after < len(in_order) else None)
            assert all(0 < len(chunk) <= 4 for chunk in made._chunks)
    finally:
        ordered.CHUNK_MAX = chunk_max


def test_chunks_stay_short() -> None:
    made = Ordered(0)
    for value in range(1, 20 * CHUNK_MAX):
        made.add(value)
    assert max(map(len, made._chunks)) <= CHUNK_MAX
