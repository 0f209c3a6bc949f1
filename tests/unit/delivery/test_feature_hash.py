"""The feature hash: its value, and who computes it how often, on two ranks of a real gloo group."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch

from gloo_pair import LIMIT_S, Bench, hash_of, order, run_on_two_ranks
from mmplane.delivery import feature_hash as module
from mmplane.delivery.feature_hash import feature_hash
from mmplane.delivery.leader import take
from mmplane.delivery.make import make
from mmplane.delivery.names import DELIVERIES
from mutation import Mutant, check_it_is_killed

A, B, C = b"media--a", b"media--b", b"media--c"
TIMES = dict.fromkeys(DELIVERIES, (0, 0)) | {
    "original": (3, 3),
    "leader": (3, 0),
    "leader-batch": (3, 0),
    "leader-async": (3, 0),
    "delayed": (3, 3),
    "delayed-async": (3, 3),
}
"""How often each rank hashes for three items. Those of an eager delivery were hashed in the front end."""


def delivered(name: str, *, hashed: bool) -> list[Any]:
    """On each rank, how many items it hashed, and the hashes that it has."""

    def program(rank: Bench) -> Any:
        orders = [order(rank, name, 1, A, hashed=hashed), order(rank, name, 2, B, C, hashed=hashed)]
        results = [future.result(LIMIT_S) for future in DELIVERIES[name](rank.ports).begin(orders)]
        return sum(result.work.hashed for result in results), [value for result in results for value in result.hashes]

    return run_on_two_ranks(program)


@pytest.mark.parametrize("name", DELIVERIES)
def test_every_rank_has_the_hash_and_few_compute_it(name: str) -> None:
    hashes = [] if name == "arena" else [hash_of(A), hash_of(B), hash_of(C)]
    assert delivered(name, hashed=True) == [(times, hashes) for times in TIMES[name]]


@pytest.mark.parametrize("name", ["original", "leader", "eager"])
def test_hashing_can_be_off(name: str) -> None:
    assert delivered(name, hashed=False) == [(0, [])] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.bfloat16])
def test_it_is_the_incidents_hash(dtype: torch.dtype) -> None:
    pixels = torch.arange(24).reshape(2, 3, 4).to(dtype)
    seen = pixels.float() if dtype == torch.bfloat16 else pixels
    expected = int.from_bytes(hashlib.sha256(seen.numpy().tobytes()).digest()[:8], "big")
    assert feature_hash({"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, 2, 3]])}) == expected


TWICE = test_every_rank_has_the_hash_and_few_compute_it
MUTANTS = [
    Mutant("a follower counts the leader's hashes", take, "work=NOTHING", "failure=None", TWICE, ("leader",)),
    Mutant("a request counts as one item", module.with_hashes, "len(hashed)", "1", TWICE, ("original",)),
    Mutant(
        "it hashes though it must not",
        make,
        "if order.feature_hash",
        "if order",
        test_hashing_can_be_off,
        ("original",),
    ),
    Mutant(
        "the last bytes", feature_hash, "[:HASH_BYTES]", "[-HASH_BYTES:]", test_it_is_the_incidents_hash, (torch.uint8,)
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_is_killed(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
