"""A heart beats while the loop computes, for a limited time, and never for a loop that is stuck elsewhere."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator

import pytest
from process_programs import HANG_S

from mmplane.core.control import Beat, FromChild
from mmplane.process.child import Control
from mmplane.process.heart import Heart
from mmplane.wire.link import Link, pair

BEAT_S = 0.001
LONG_S = 1e6


@pytest.fixture
def supervisor() -> Iterator[tuple[Link[FromChild], Control]]:
    ours, theirs = pair()
    link: Link[FromChild] = Link(ours, FromChild)
    control: Control = Control(Link(theirs, FromChild))
    yield link, control
    link.close()


def heard(link: Link[FromChild]) -> FromChild:
    assert select.select([link], [], [], HANG_S)[0], "nothing is said"
    received = link.receive_nowait()
    assert received is not None
    return received[0]


def test_it_beats_while_the_loop_computes_again_and_again(supervisor: tuple[Link[FromChild], Control]) -> None:
    link, control = supervisor
    heart = Heart(control, limit_s=LONG_S, beat_s=BEAT_S)
    for _ in range(3):
        with heart.computing():
            assert [heard(link) for _ in range(3)] == [Beat(computing=True)] * 3


def test_it_speaks_for_a_limited_time_and_for_nothing_else() -> None:
    control: Control = None  # type: ignore[assignment]  # it is never told anything
    heart = Heart(control, limit_s=50.0, beat_s=LONG_S)
    assert not heart.speaks(time.monotonic())
    with heart.computing():
        began_s = time.monotonic()
        assert heart.speaks(began_s + 40.0)
        assert not heart.speaks(began_s + 50.0)
    assert not heart.speaks(time.monotonic())
    with heart.computing():
        assert heart.speaks(time.monotonic()), "a new block has all its time"
