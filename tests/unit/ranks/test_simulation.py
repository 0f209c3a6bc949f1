"""A thousand rank groups, each with its own bad luck (hazards R1, R2, R14)."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from rank_simulation import Simulation

SEEDS = int(os.environ.get("MMPLANE_FUZZ_EXAMPLES", "0")) or 334
"""For each size of group."""


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_every_seed_keeps_every_promise(tp: int) -> None:
    events: Counter[str] = Counter()
    for seed in range(SEEDS):
        events += Simulation(seed, tp).run().events
    rare = [name for name in HAPPENS if events[name] < SEEDS // 20]
    assert not rare, f"the simulation does not reach {rare}: {events}"


HAPPENS = (
    "Admitted",
    "Failed",
    "forks",
    "front end left",
    "requests that share a plan",
    "abort of a sample",
    *(f"abort, {phase}" for phase in ("waiting", "preparing", "prompt", "decoding", "done")),
)


def test_one_seed_is_one_run() -> None:
    for seed in range(20):
        one, other = Simulation(seed).run(), Simulation(seed).run()
        assert one.events == other.events
        assert [rank.digests for rank in one.ranks] == [rank.digests for rank in other.ranks]
        assert one.clients == other.clients


@pytest.mark.skipif("MMPLANE_SEED" not in os.environ, reason="MMPLANE_SEED names no run to look at")
@pytest.mark.parametrize("tp", [1, 2, 4])
def test_this_seed(tp: int) -> None:
    Simulation(int(os.environ["MMPLANE_SEED"]), tp).run()
