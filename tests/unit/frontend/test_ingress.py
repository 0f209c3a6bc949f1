"""Which ranks get inline bytes: what each delivery does, what it can do, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mmplane.config import DELIVERY_NAMES
from mmplane.core.errors import RequestError
from mmplane.delivery.ingress import INGRESS, check_ingress, ingress_of
from mmplane.frontend.send.dispatch import Dispatch
from mmplane.frontend.send.rollout import Rollout
from mutation import Mutant, check_it_is_killed

RELAYED = {"original", "leader", "eager", "eager-compact", "auto"}
"""Deliveries whose own way is to every rank."""
BROADCAST = {"leader", "leader-batch", "leader-async", "delayed", "delayed-async"}


def dispatch(ingress: str = "auto", name: str = "arena") -> Dispatch:
    store = cast("Any", SimpleNamespace(cache=True))
    return Dispatch(Rollout(name), {}, store, largest_item_bytes=1, cache="auto", ingress=ingress)


def test_each_delivery_has_its_own_way() -> None:
    assert tuple(INGRESS) == DELIVERY_NAMES
    assert {name for name in INGRESS if dispatch().relays(name)} == RELAYED


def test_deliveries_that_broadcast_can_do_both() -> None:
    assert {name for name in INGRESS if dispatch("every-rank").relays(name)} == RELAYED | BROADCAST
    assert {name for name in INGRESS if dispatch("leader").relays(name)} == RELAYED - BROADCAST


def test_what_is_impossible_is_refused_at_a_switch_and_changes_nothing() -> None:
    one = dispatch()
    for name in sorted(set(DELIVERY_NAMES) - BROADCAST - {"arena"}):
        with pytest.raises(RequestError) as refused:
            one.put(name, 1.0, None, "leader")
        assert refused.value.status == 400
        assert f"leader is not possible for {name}: it broadcasts nothing" in refused.value.message
    assert (one.now()["name"], one.now()["ingress"]) == ("arena", "auto")


def test_what_holds_already_is_checked_too() -> None:
    one = dispatch("leader", "delayed")
    with pytest.raises(RequestError):
        one.put("original", 1.0, None)
    one.put("original", 1.0, None, "auto")
    with pytest.raises(RequestError):
        one.put("leader", 0.5, None, "leader")  # the other half of the requests takes `original`
    one.put("leader", 1.0, None, "leader")
    assert one.now()["ingress"] == "leader"


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(RequestError):
        dispatch().put("leader", 1.0, None, "some-rank")


MUTANTS = [
    Mutant(
        "every way is every delivery's own",
        ingress_of,
        "wanted if wanted in possible else ",
        "",
        test_deliveries_that_broadcast_can_do_both,
    ),
    Mutant(
        "all bytes go to all ranks", Dispatch.relays, "== EVERY_RANK", "is not None", test_each_delivery_has_its_own_way
    ),
    Mutant(
        "nothing is impossible",
        check_ingress,
        "if possible and",
        "if not possible and",
        test_what_is_impossible_is_refused_at_a_switch_and_changes_nothing,
    ),
    Mutant(
        "only the new delivery is checked",
        Dispatch.put,
        "{name} if share == 1.0 else {name, self._rollout.settled}",
        "{name}",
        test_what_holds_already_is_checked_too,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_is_killed(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
