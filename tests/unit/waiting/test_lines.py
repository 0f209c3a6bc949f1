"""Lines: tenants take turns, a line that does not move is given up, and nobody is forgotten (R17, R19)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import given, strategies

from mmplane.waiting.lines import PASSED_OVER_SECONDS, STALLED_SECONDS, Fit, Lines


def fitting(fit: Fit = Fit.NO_ROOM, **lacking: Fit) -> Callable[[str], Fit]:
    """Everybody fits, but those who lack something."""
    return lambda name: lacking.get(name, Fit.NOW)


def taken(lines: Lines[str], count: int, now_s: float = 0.0, **lacking: Fit) -> list[str]:
    """Whose turns come next."""
    found = (lines.next(now_s, fitting(**lacking)) for _ in range(count))
    return [turn.waiter if not turn.in_vain else f"{turn.waiter} in vain" for turn in found if turn]


def lined_up(**names: str) -> Lines[str]:
    """Lines with these waiters, by tenant."""
    lines: Lines[str] = Lines()
    for tenant, waiting in names.items():
        for name in waiting.split():
            lines.add(name, tenant)
    return lines


def test_in_order_of_asking() -> None:
    assert taken(lined_up(a="x y z"), 4) == ["x", "y", "z"]


def test_tenants_take_turns() -> None:
    assert taken(lined_up(many="m1 m2 m3 m4", one="o"), 5) == ["m1", "o", "m2", "m3", "m4"]


def test_the_line_that_holds_least_goes_first() -> None:
    held = Counter(clips=2, pictures=1)
    lines: Lines[str] = Lines(lambda line: held[str(line)])
    for name, line in (("clip", "clips"), ("picture", "pictures"), ("new", "others")):
        lines.add(name, line)
    assert taken(lines, 3) == ["new", "picture", "clip"]


def test_who_does_not_fit_holds_up_its_own_line_alone() -> None:
    lines = lined_up(a="large small", b="other")
    assert taken(lines, 3, large=Fit.NO_ROOM) == ["other"]
    assert [lines.is_stalled(line) for line in "ab"] == [True, False]
    assert taken(lines, 3) == ["large", "small"]


def test_who_was_passed_over_for_long_is_passed_over_no_more() -> None:
    """Small requests that never end would starve a large one (A22)."""
    lines = lined_up(large="large", small="s1 s2 s3")
    assert taken(lines, 1, 0.0, large=Fit.NO_ROOM) == ["s1"]
    assert taken(lines, 1, PASSED_OVER_SECONDS / 2, large=Fit.NO_ROOM) == ["s2"]
    assert taken(lines, 1, PASSED_OVER_SECONDS, large=Fit.NO_ROOM) == [], "what is free is kept for the large one"
    lines.add("newcomer", "new")
    assert taken(lines, 1, PASSED_OVER_SECONDS, large=Fit.NO_ROOM) == []
    assert taken(lines, 3, PASSED_OVER_SECONDS) == ["large", "s3", "newcomer"]


def test_nothing_is_kept_for_a_tenant_at_its_own_share() -> None:
    lines = lined_up(greedy="more", other="o1 o2")
    assert taken(lines, 1, 0.0, more=Fit.OWN_SHARE) == ["o1"]
    assert taken(lines, 1, PASSED_OVER_SECONDS, more=Fit.OWN_SHARE) == ["o2"]


def test_a_line_that_does_not_move_is_given_up() -> None:
    lines = lined_up(a="first second small last")
    lacking = dict.fromkeys(("first", "second", "last"), Fit.NO_ROOM)
    assert taken(lines, 1, 1.0, **lacking) == []
    assert lines.in_vain_s(1.0) == 1.0 + STALLED_SECONDS
    assert taken(lines, 1, STALLED_SECONDS, **lacking) == []
    now_s = 1.0 + STALLED_SECONDS
    assert taken(lines, 3, now_s, **lacking) == ["first in vain", "second in vain", "small"]
    assert taken(lines, 1, now_s, **lacking) == [], "the last one's wait has just begun"
    assert lines.in_vain_s(now_s) == now_s + STALLED_SECONDS


def test_a_turn_in_time_ends_the_stall() -> None:
    lines = lined_up(a="first second")
    assert taken(lines, 1, 0.0, first=Fit.NO_ROOM) == []
    assert taken(lines, 1, 0.0) == ["first"]
    assert not lines.is_stalled("a")
    assert taken(lines, 1, STALLED_SECONDS, second=Fit.NO_ROOM) == []


def test_who_waits_for_what_nobody_else_could_use_does_not_stall() -> None:
    lines = lined_up(slow="clip", quick="picture")
    assert taken(lines, 2, 0.0, clip=Fit.NOT_YET) == ["picture"]
    assert taken(lines, 2, 2 * STALLED_SECONDS, clip=Fit.NOT_YET) == []
    assert lines.in_vain_s(0.0) is None


def test_who_goes_away_leaves_nothing() -> None:
    lines = lined_up(a="mine", b="yours")
    assert taken(lines, 1, 0.0, mine=Fit.NO_ROOM, yours=Fit.NO_ROOM) == []
    lines.remove("mine", "a")
    lines.remove("nobody", "a")
    lines.remove("yours", "c")
    assert (len(lines), lines.waiting, lines.count("a"), lines.is_stalled("a")) == (1, 1, 0, False)
    assert taken(lines, 2) == ["yours"]


asks = strategies.lists(strategies.tuples(strategies.sampled_from("abc"), strategies.booleans()), max_size=60)


@given(asks)
def test_everybody_has_one_turn_and_no_tenant_waits_for_more_than_one_of_each_other(
    asked: list[tuple[str, bool]],
) -> None:
    lines: Lines[int] = Lines()
    waiting: dict[int, str] = {}
    passed: dict[str, Counter[str]] = {}

    def take() -> None:
        if (found := lines.next(0.0, lambda _: Fit.NOW)) is None:
            assert not waiting
            return
        tenant = waiting.pop(found.waiter)
        behind = (each for each, where in waiting.items() if where == tenant)
        assert found.waiter < min(behind, default=found.waiter + 1)
        for other in set(waiting.values()) - {tenant}:
            counts = passed.setdefault(other, Counter())
            counts[tenant] += 1
            assert counts[tenant] <= 1, "served twice while another waited"
        passed.pop(tenant, None)

    for number, (tenant, then_take) in enumerate(asked):
        lines.add(number, tenant)
        waiting[number] = tenant
        if then_take:
            take()
    while waiting:
        take()
    assert lines.next(0.0, lambda _: Fit.NOW) is None
