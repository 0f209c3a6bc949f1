"""Places and lives of rank groups."""

from __future__ import annotations

import pytest

from mmplane.arena.leases import Process
from mmplane.sidecar.groups import GROUPS_MAX, Groups, Misplaced

RANKS = [Process("rank", number, number) for number in range(4)]


def test_a_group_is_there_once_every_rank_is() -> None:
    groups = Groups()
    life = groups.join(7, 0, 2, RANKS[0])
    assert groups.of(7) is None
    assert groups.join(7, 1, 2, RANKS[1]) is life
    assert groups.of(7) is life
    assert set(life.members.values()) == set(RANKS[:2])
    assert groups.of(8) is None


def test_one_rank_gone_is_the_group_broken_and_the_next_begins_another_life() -> None:
    groups = Groups()
    first = groups.join(0, 0, 2, RANKS[0])
    groups.join(0, 1, 2, RANKS[1])
    groups.left(RANKS[0])
    assert groups.of(0) is None
    second = groups.join(0, 0, 2, RANKS[2])
    assert second.number > first.number
    groups.left(RANKS[1])  # the old life's last
    groups.join(0, 1, 2, RANKS[3])
    assert groups.of(0) is second


def test_a_group_has_mapped_what_each_of_its_ranks_has() -> None:
    groups = Groups()
    life = groups.join(0, 0, 2, RANKS[0])
    groups.join(0, 1, 2, RANKS[1])
    life.mapped[RANKS[0]] |= {0, 1}
    life.mapped[RANKS[1]] |= {0}
    assert (groups.of(0), groups.of(0, [0]), groups.of(0, [1])) == (life, life, None)
    groups.left(RANKS[1])
    groups.left(RANKS[0])
    groups.join(0, 0, 1, RANKS[2])
    assert groups.of(0, [0]) is None, "the next life has mapped nothing"


def test_lives_end_with_their_last_rank_and_groups_are_bounded() -> None:
    groups = Groups()
    for group in range(GROUPS_MAX):
        groups.join(group, 0, 1, RANKS[0])
    with pytest.raises(Misplaced):
        groups.join(GROUPS_MAX, 0, 1, RANKS[0])
    groups.left(RANKS[0])
    assert len(groups) == 0
