"""The matrix is whole."""

from __future__ import annotations

from collections import Counter
from itertools import product

from tests.chaos.table import SIGNALS, STAGES, VICTIMS, rounds, short


def test_every_cell_is_played_at_least_twice() -> None:
    played = Counter((each.victim, each.signal, each.stage) for each in rounds(500, seed=1))
    assert played.total() == 500
    assert set(played) == set(product(VICTIMS, SIGNALS, STAGES))
    assert min(played.values()) >= 2


def test_where_two_can_be_held_both_are() -> None:
    held = {(each.victim, each.signal, each.stage, each.holder) for each in rounds(500, seed=1)}
    assert held >= {(*cell, holder) for cell in product(VICTIMS, SIGNALS, STAGES) for holder in STAGES[cell[2]]}


def test_a_seed_is_a_matrix() -> None:
    assert rounds(400, seed=3) == rounds(400, seed=3)
    assert rounds(400, seed=3) != rounds(400, seed=4)


def test_the_short_one_has_each_victim_signal_and_stage_and_ends_with_the_supervisors_death() -> None:
    played = list(short(0))
    assert Counter((each.victim, each.signal) for each in played) == Counter(product(VICTIMS, SIGNALS))
    assert {each.stage for each in played} == set(STAGES)
    assert (played[-1].victim, played[-1].signal) == ("supervisor", "SIGKILL")
