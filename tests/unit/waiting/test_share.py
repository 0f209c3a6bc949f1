"""A tenant's share: no tenant takes all, two do not shut out a third, one alone has everything."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies

from mmplane.core.errors import RequestError
from mmplane.waiting.share import Share


def most(share: Share, tenant: str) -> int:
    """How much this tenant can take, one by one."""
    count = 0
    while share.total_held < share._total and share.allows(tenant):
        share.take(tenant)
        count += 1
    return count


def test_one_tenant_alone_may_have_everything() -> None:
    assert most(Share(32), "a") == 32


def test_a_tenant_has_half_where_there_are_several() -> None:
    share = Share(32, tenants=2)
    assert [most(share, tenant) for tenant in "ab"] == [16, 16]


def test_two_greedy_tenants_do_not_shut_out_a_third() -> None:
    share = Share(32, tenants=3)
    assert [most(share, tenant) for tenant in "abc"] == [16, 14, 2]


@pytest.mark.parametrize("total", [1, 2, 3])
def test_there_is_always_something_for_somebody(total: int) -> None:
    assert most(Share(total, tenants=9), "a") >= 1


def test_a_seat_is_given_back_and_too_many_are_refused() -> None:
    share = Share(2, tenants=2)
    with share.seat("a"):
        with pytest.raises(RequestError) as refused, share.seat("a"):
            pass
        assert (refused.value.status, refused.value.retry_after_s) == (429, 1)
        with share.seat("b"):
            assert share.statistics() == {"tenants": 2, "most": 1, "each_max": 1}
    with share.seat("a"):
        pass
    assert share.statistics()["tenants"] == share.total_held == 0


@given(strategies.integers(0, 100), strategies.integers(2, 12), strategies.lists(strategies.integers(0, 11)))
def test_whoever_holds_nothing_finds_something_left(total: int, tenants: int, asks: list[int]) -> None:
    """As long as there are parts enough for all who hold nothing, within a quarter of the total."""
    share = Share(total, tenants)
    for ask in asks:
        tenant = str(ask % tenants)
        if share.total_held < total and share.allows(tenant):
            share.take(tenant)
    absent = [str(tenant) for tenant in range(tenants) if not share.held(str(tenant))]
    holding = tenants - len(absent)
    if absent and holding == 1:
        assert total < 2 or total - share.total_held >= min(len(absent), 4) * (total // 16)
