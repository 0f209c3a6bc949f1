"""Turns at the workers: nothing slow takes the last worker, tenants take turns, nobody is forgotten (R17)."""

from __future__ import annotations

from collections import Counter

import pytest
from frontend_rig import layout_of
from hypothesis import given, strategies

from mmplane.core.records import Clip, Recipe
from mmplane.frontend.turns import SLOW_BYTES, Pace, Turns, pace_of

QUICK, SLOW = Pace.QUICK, Pace.SLOW


def taken(turns: Turns[str], count: int, *, slow: bool = True) -> list[str]:
    """Whose turns come next."""
    return [asker for asker, _ in filter(None, (turns.take(slow=slow) for _ in range(count)))]


def clip(frames: int, last: int, width: int = 640, height: int = 480) -> Recipe:
    indices = (*range(frames - 1), last)
    return Recipe("video", layout_of(1), clip=Clip(width, height, last + 1, 25.0, indices))


def test_pace_is_what_has_to_be_decoded_and_not_what_is_kept() -> None:
    assert pace_of(clip(8, 20)) is QUICK
    assert pace_of(clip(8, 2000)) is SLOW, "eight frames, but the last is far behind"
    assert pace_of(clip(8, 2000, 64, 48)) is QUICK
    assert pace_of(Recipe("image", layout_of(1), decoded_bytes=SLOW_BYTES)) is QUICK
    assert pace_of(Recipe("image", layout_of(1), decoded_bytes=SLOW_BYTES + 1)) is SLOW
    assert pace_of(Recipe("audio", layout_of(1), samples=480_000, decoded_bytes=480_000 * 16)) is QUICK


def test_in_order_of_asking() -> None:
    turns: Turns[str] = Turns()
    for name in "abc":
        turns.add(name, QUICK, "")
    assert taken(turns, 4) == ["a", "b", "c"]


def test_what_is_slow_waits_for_its_worker_and_holds_nobody_up() -> None:
    turns: Turns[str] = Turns()
    turns.add("clip", SLOW, "")
    turns.add("picture", QUICK, "")
    assert taken(turns, 2, slow=False) == ["picture"]
    assert turns.count(SLOW) == 1
    assert taken(turns, 1) == ["clip"]


def test_the_paces_alternate() -> None:
    """Without that, pictures that never end would starve a clip."""
    turns: Turns[str] = Turns()
    for number in range(3):
        turns.add(f"clip {number}", SLOW, "")
        turns.add(f"picture {number}", QUICK, "")
    assert taken(turns, 6) == ["picture 0", "clip 0", "picture 1", "clip 1", "picture 2", "clip 2"]


def test_tenants_take_turns() -> None:
    turns: Turns[str] = Turns()
    for number in range(4):
        turns.add(f"many {number}", QUICK, "many")
    turns.add("one", QUICK, "one")
    assert taken(turns, 5) == ["many 0", "one", "many 1", "many 2", "many 3"]


@pytest.mark.parametrize("tenant", ["a", "b"])
def test_who_goes_away_leaves_nothing(tenant: str) -> None:
    turns: Turns[str] = Turns()
    turns.add("mine", QUICK, "a")
    turns.add("yours", QUICK, "b")
    turns.remove("mine" if tenant == "a" else "yours", QUICK, tenant)
    turns.remove("nobody", QUICK, tenant)
    assert (turns.count(QUICK), len(turns._waiting[QUICK])) == (1, 1)
    assert taken(turns, 2) == ["yours" if tenant == "a" else "mine"]


asks = strategies.lists(
    strategies.tuples(strategies.sampled_from(Pace), strategies.sampled_from("abc"), strategies.booleans()), max_size=60
)


@given(asks)
def test_everybody_has_one_turn_and_no_tenant_waits_for_more_than_one_of_each_other(
    asked: list[tuple[Pace, str, bool]],
) -> None:
    turns: Turns[int] = Turns()
    waiting: dict[int, tuple[Pace, str]] = {}
    passed: dict[tuple[Pace, str], Counter[str]] = {}

    def take(*, slow: bool) -> None:
        if (found := turns.take(slow=slow)) is None:
            assert all(not slow and pace is SLOW for pace, _ in waiting.values())
            return
        number, pace = found
        tenant = waiting.pop(number)[1]
        assert number < min((each for each, where in waiting.items() if where == (pace, tenant)), default=number + 1)
        for other in {where[1] for where in waiting.values() if where[0] is pace} - {tenant}:
            counts = passed.setdefault((pace, other), Counter())
            counts[tenant] += 1
            assert counts[tenant] <= 1, "served twice while another waited"
        passed.pop((pace, tenant), None)

    for number, (pace, tenant, then_take) in enumerate(asked):
        turns.add(number, pace, tenant)
        waiting[number] = (pace, tenant)
        if then_take:
            take(slow=number % 2 == 0)
    while waiting:
        take(slow=True)
    assert turns.take(slow=True) is None
