"""A thousand rank groups, each with its own bad luck (hazards R1, R2, R9, R14). `make simulate` runs ten thousand.

A seed that fails names the command that runs it again.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from rank_simulation import Simulation

from mmplane.delivery.names import DELIVERIES

SEEDS = int(os.environ.get("MMPLANE_FUZZ_EXAMPLES", "0")) or 334
"""For each size of group."""


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_every_seed_keeps_every_promise(tp: int) -> None:
    events: Counter[str] = Counter()
    for seed in range(SEEDS):
        events += Simulation(seed, tp).run().events
    rare = [name for name in HAPPENS if events[name] < 2]
    assert not rare, f"the simulation does not reach {rare}: {events}"


HAPPENS = (
    "forks",
    "requests that share a plan",
    "abort of a sample",
    *(f"abort, {phase}" for phase in ("before its parcel", "waiting", "preparing", "prompt", "decoding", "done")),
    "cancel, prepared",
    "cancel, not prepared",
    "a parcel came first",
    "front end left",
    "died in mid-frame",
    "the group crashed",
    "took too long",
    "kept",
    "evicted",
    "reused",
    "embeddings kept",
    "embeddings found",
    "embeddings evicted",
    "blocks reused",
    "pictures reused",
    "blocks copied",
    "blocks evicted",
    "preempted",
    "computed again",
    *(f"admitted, {name}" for name in DELIVERIES),
    *(f"failed, {name}" for name in DELIVERIES),
)


def test_one_seed_is_one_run() -> None:
    for seed in range(20):
        one, other = Simulation(seed).run(), Simulation(seed).run()
        assert one.events == other.events
        assert [rank.digests for rank in one.ranks] == [rank.digests for rank in other.ranks]
        assert [each.tokens for each in one.clients.values()] == [each.tokens for each in other.clients.values()]
