"""Parcels: put, got and dropped in any order; at the end nothing is left."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmplane.core.errors import RequestError
from mmplane.delivery.parcels import Parcels

EMPTY = {"held": 0, "dropped": 0}


def counts(parcels: Parcels) -> dict[str, int]:
    """Of those that are here, or awaited to be dropped."""
    return {name: count for name, count in parcels.statistics().items() if name in EMPTY}


def test_who_waits_gets_it_when_it_comes() -> None:
    parcels, found = Parcels(), []
    waiting = threading.Thread(target=lambda: found.append(bytes(parcels.get(1, 20.0))))
    waiting.start()
    parcels.put(2, bytearray(b"another"))
    parcels.put(1, bytearray(b"mine"))
    waiting.join(60)
    assert found == [b"mine"]


def test_what_does_not_come_is_a_failure() -> None:
    with pytest.raises(RequestError) as error:
        Parcels().get(1, 0.0)
    assert error.value.status == 503


def test_a_parcel_that_is_in_use_outlives_its_dropping() -> None:
    parcels = Parcels()
    parcels.put(1, bytearray(b"mine"))
    view = parcels.get(1, 0.0)
    parcels.drop(1)
    assert counts(parcels) == EMPTY
    assert bytes(view) == b"mine"


@given(st.permutations([(kind, request) for kind in ("put", "drop") for request in range(4)]))
def test_one_drop_for_each_parcel_leaves_nothing_in_any_order(events: list[tuple[str, int]]) -> None:
    parcels = Parcels()
    held: set[int] = set()
    dropped: set[int] = set()
    for kind, request in events:
        if kind == "put":
            parcels.put(request, bytearray(5))
            (dropped.discard if request in dropped else held.add)(request)
        else:
            parcels.drop(request)
            (held.discard if request in held else dropped.add)(request)
        assert counts(parcels) == {"held": len(held), "dropped": len(dropped)}
    assert parcels.statistics() == EMPTY | {"received_bytes": 4 * 5}
