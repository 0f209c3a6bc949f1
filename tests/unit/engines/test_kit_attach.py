"""Attaching while an engine starts, and leases that are taken before their messages are sent."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from mmplane import Leased
from mmplane.core.records import Item, Slot
from mmplane.embed.errors import Lost, NotAttached
from mmplane.engines.kit import attach as kit
from mmplane.engines.kit.attach import attach
from mmplane.engines.kit.leases import Leases

LIMIT_S = 60.0


def failing(*errors: Exception) -> Callable[[], str]:
    """Raises these, one at each call, and then attaches."""
    left = list(errors)

    def make() -> str:
        if left:
            raise left.pop(0)
        return "attached"

    return make


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit, "RETRY_S", 0.0)


def test_what_may_pass_is_waited_for() -> None:
    """No sidecar yet; a sidecar that lacks a descriptor for this process's handle; no descriptor here."""
    errors = (
        Lost("there is no sidecar"),
        NotAttached("there is no handle (Too many open files)"),
        OSError(24, "EMFILE"),
    )
    assert attach(failing(*errors)).result(LIMIT_S) == "attached"


def test_what_does_not_pass_ends_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no such rank"):
        attach(failing(ValueError("no such rank"))).result(LIMIT_S)
    monkeypatch.setattr(kit, "LIMIT_S", 0.0)
    with pytest.raises(Lost):
        attach(failing(Lost("there is no sidecar"))).result(LIMIT_S)


def leased(number: int) -> Leased:
    return Leased(number, Item(b"k", "image", Slot(0, 0, 64, 1), ()))


def test_what_is_not_sent_is_given_back() -> None:
    revoked: list[int] = []
    leases = Leases([leased(number) for number in range(3)], lambda *back: revoked.extend(one.lease for one in back))
    taken = leases.take().lease
    del leases
    gc.collect()
    assert sorted([taken, *revoked]) == [0, 1, 2]
    assert taken not in revoked


def test_more_messages_than_leases_is_an_error_and_a_forked_process_gives_nothing_back() -> None:
    def lost(*_: Leased) -> None:
        raise Lost("this process was forked")

    leases = Leases([leased(1), leased(2)], lost)
    leases.take()
    empty = Leases([], lost)
    with pytest.raises(LookupError):
        empty.take()
    del leases
    gc.collect()
