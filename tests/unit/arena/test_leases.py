"""The table is the only way between states, and leases are counted by process and tag."""

from __future__ import annotations

from itertools import product

import pytest

from mmplane.arena.errors import NotHeld
from mmplane.arena.leases import TRANSITIONS, Event, Leases, Occupant, Process, SlotState
from mmplane.core.records import Slot

WORKER = Process("worker", 0, 1)
RANKS = Process("ranks", 0, 1)


def occupant() -> Occupant:
    return Occupant(Slot(0, 0, 100, 7), 128, WORKER)


LEGAL = {
    (SlotState.FREE, Event.RESERVE): SlotState.WRITING,
    (SlotState.WRITING, Event.COMMIT): SlotState.READY,
    (SlotState.WRITING, Event.DISCARD): SlotState.QUARANTINED,
    (SlotState.WRITING, Event.DRAIN): SlotState.FREE,
    (SlotState.READY, Event.DISCARD): SlotState.QUARANTINED,
    (SlotState.READY, Event.EVICT): SlotState.FREE,
    (SlotState.READY, Event.DRAIN): SlotState.FREE,
    (SlotState.QUARANTINED, Event.DISCARD): SlotState.QUARANTINED,
    (SlotState.QUARANTINED, Event.DRAIN): SlotState.FREE,
}


@pytest.mark.parametrize(("state", "event"), list(product(SlotState, Event)))
def test_the_table_and_nothing_else(state: SlotState, event: Event) -> None:
    assert TRANSITIONS[state].get(event) == LEGAL.get((state, event))
    use = occupant()
    use.writer, use.state = None, state
    if (state, event) in LEGAL:
        use.apply(event)
        assert use.state is LEGAL[state, event]
    else:
        with pytest.raises(AssertionError, match="not legal"):
            use.apply(event)
        assert use.state is state


@pytest.mark.parametrize(("state", "event"), [pair for pair, after in LEGAL.items() if after is SlotState.FREE])
def test_no_step_frees_what_is_held(state: SlotState, event: Event) -> None:
    for hold in ("writer", "lease"):
        use = occupant()
        use.state = state
        if hold == "lease":
            use.writer = None
            use.leases.add(RANKS, 1)
        with pytest.raises(AssertionError, match="held"):
            use.apply(event)


def test_leases_are_counted() -> None:
    leases = Leases()
    for tag in (1, 1, 2):
        leases.add(RANKS, tag)
    leases.add(WORKER, 1)
    assert leases.total == 4
    leases.drop(RANKS, 1)
    leases.check_integrity()
    assert leases.drop_process(RANKS) == 2
    assert leases.drop_process(RANKS) == 0
    leases.drop(WORKER, 1)
    assert leases.total == 0
    leases.check_integrity()


def test_what_is_not_held_cannot_be_given_back() -> None:
    leases = Leases()
    leases.add(RANKS, 1)
    for process, tag in ((RANKS, 2), (WORKER, 1), (Process("ranks", 0, 2), 1)):
        with pytest.raises(NotHeld):
            leases.drop(process, tag)
    leases.drop(RANKS, 1)
    with pytest.raises(NotHeld):
        leases.drop(RANKS, 1)
    assert leases.total == 0


def test_each_life_is_another_process() -> None:
    lives = {Process("worker", 0, 1), Process("worker", 0, 2), Process("worker", 1, 1), Process("ranks", 0, 1)}
    assert len(lives) == 4
    assert Process("worker", 0, 1) in lives
