"""Files that end workers are remembered, for a while and not too many (R3)."""

from __future__ import annotations

from mmplane.items import poison as poison_module
from mmplane.items.poison import POISON_SECONDS, Poison


def test_the_first_death_may_be_anybodys_doing_and_the_second_is_not() -> None:
    poison = Poison()
    assert poison.strike(b"a", 0.0) is None
    assert poison.refusal(b"a", 1.0) is None
    refusal = poison.strike(b"a", 2.0)
    assert refusal is not None
    assert refusal.status == 400
    assert poison.refusal(b"a", 3.0) is not None
    assert poison.refusal(b"b", 3.0) is None


def test_it_is_forgotten_after_a_while() -> None:
    poison = Poison()
    for _ in range(2):
        poison.strike(b"a", 5.0)
    assert poison.refusal(b"a", 5.0 + POISON_SECONDS - 1) is not None
    assert poison.refusal(b"a", 5.0 + POISON_SECONDS) is None
    assert len(poison) == 0
    assert poison.strike(b"a", 5.0 + POISON_SECONDS) is None


def test_the_oldest_go(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(poison_module, "KEYS_MAX", 3)
    poison = Poison()
    for number in range(5):
        for _ in range(2):
            poison.strike(bytes([number]), 0.0)
    assert len(poison) == 3
    assert [poison.refusal(bytes([number]), 1.0) is not None for number in range(5)] == [False] * 2 + [True] * 3
