"""Turns at the workers: nothing slow takes the last worker, tenants take turns, nobody is forgotten (R17)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from frontend_rig import layout_of
from hypothesis import given, strategies

from mmplane.core.records import Clip, Recipe
from mmplane.waiting.turns import BLOCKED_SECONDS, SLOW_BYTES, Pace, Turns, pace_of

QUICK, SLOW = Pace.QUICK, Pace.SLOW


def taken(turns: Turns[str], count: int, *, slow: bool = True) -> list[str]:
    """Whose turns come next."""
    return [turn.asker for turn in filter(None, (turns.take(0.0, slow=slow) for _ in range(count)))]


def clip(decoded: int, width: int = 640, height: int = 480) -> Recipe:
    """Eight frames are taken, of so many that are decoded."""
    taken = Clip(width, height, 3000, 25.0, (*range(7), 2999), runs=((0, decoded),))
    return Recipe("video", layout_of(1), clip=taken)


def test_pace_is_what_has_to_be_decoded_and_not_what_is_kept() -> None:
    assert pace_of(clip(20)) is QUICK
    assert pace_of(clip(2000)) is SLOW
    assert pace_of(clip(2000, 64, 48)) is QUICK
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


def lacking(*names: str) -> Callable[[str], bool]:
    """There is room for all but these."""
    return lambda name: name not in names


def test_who_lacks_room_holds_up_its_own_tenants_items_of_its_pace_alone() -> None:
    turns: Turns[str] = Turns()
    for name, pace, tenant in (
        ("large", QUICK, "a"),
        ("small", QUICK, "a"),
        ("other's", QUICK, "b"),
        ("clip", SLOW, "a"),
    ):
        turns.add(name, pace, tenant)
    found = [turns.take(0.0, slow=True, ready=lacking("large")) for _ in range(3)]
    assert [turn and turn.asker for turn in found] == ["other's", "clip", None]
    assert [turns.is_blocked(QUICK, tenant) for tenant in "ab"] == [True, False]
    assert not turns.is_blocked(SLOW, "a")
    assert taken(turns, 3) == ["large", "small"]


def test_who_lacks_room_for_too_long_has_waited_in_vain_and_so_have_those_behind() -> None:
    turns: Turns[str] = Turns()
    for name in ("first", "second", "small", "last"):
        turns.add(name, QUICK, "")
    lacks = lacking("first", "second", "last")
    assert turns.take(1.0, slow=True, ready=lacks) is None
    assert turns.in_vain_s(slow=False) == 1.0 + BLOCKED_SECONDS
    assert turns.take(BLOCKED_SECONDS, slow=True, ready=lacks) is None
    found = [turns.take(1.0 + BLOCKED_SECONDS, slow=True, ready=lacks) for _ in range(4)]
    assert [turn and (turn.asker, turn.in_vain) for turn in found] == [
        ("first", True),
        ("second", True),
        ("small", False),
        None,  # the last one's wait has just begun
    ]
    assert turns.in_vain_s(slow=False) == 1.0 + 2 * BLOCKED_SECONDS


def test_room_that_comes_in_time_ends_the_wait() -> None:
    turns: Turns[str] = Turns()
    for name in ("first", "second"):
        turns.add(name, QUICK, "")
    assert turns.take(0.0, slow=True, ready=lacking("first")) is None
    assert taken(turns, 1) == ["first"]
    assert not turns.is_blocked(QUICK, "")
    assert turns.take(BLOCKED_SECONDS, slow=True, ready=lacking("second")) is None


def test_who_lacked_room_and_went_away_leaves_nothing() -> None:
    turns: Turns[str] = Turns()
    turns.add("clip", SLOW, "")
    assert turns.take(0.0, slow=True, ready=lacking("clip")) is None
    assert turns.in_vain_s(slow=False) is None, "it is not looked at while no slow item may begin"
    turns.remove("clip", SLOW, "")
    assert not turns.is_blocked(SLOW, "")
    assert turns.in_vain_s(slow=True) is None


def test_turns_that_come_before_ones_own() -> None:
    turns: Turns[str] = Turns()
    for number in range(3):
        turns.add(f"many {number}", QUICK, "many")
    turns.add("one", QUICK, "one")
    assert [turns.ahead(QUICK, tenant) for tenant in ("many", "one", "new")] == [6, 2, 0]


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
        if (found := turns.take(0.0, slow=slow)) is None:
            assert all(not slow and pace is SLOW for pace, _ in waiting.values())
            return
        number = found.asker
        pace, tenant = waiting.pop(number)
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
    assert turns.take(0.0, slow=True) is None
