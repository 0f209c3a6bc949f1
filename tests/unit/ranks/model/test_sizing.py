"""How much memory keys, values and states get: what was asked for, what a GPU has left, and the same on every rank."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from gloo_pair import Bench, run_on_two_ranks
from mmplane.commands.starting import KV_BYTES, kv_bytes_for
from mmplane.config import BYTES_MAX, GIB, MIB, Config
from mmplane.ranks.model import sizing
from mmplane.ranks.model.cache import Memory
from mmplane.ranks.model.sizing import room_for
from mmplane.ranks.plan.blocks import BLOCK_TOKENS
from mmplane.ranks.plan.room import Room, Sizes
from mutation import Mutant, check_it_is_killed

KIB_A_TOKEN = Sizes(1024)
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


class Card:
    """`torch.cuda` on a card with this much free memory."""

    def __init__(self, free_bytes: int) -> None:
        self._free_bytes = free_bytes
        self._unused_bytes = 100 * MIB
        """What torch keeps of memory that nobody uses any more."""

    def empty_cache(self) -> None:
        self._free_bytes, self._unused_bytes = self._free_bytes + self._unused_bytes, 0

    def mem_get_info(self, device: torch.device) -> tuple[int, int]:
        assert device == GPU
        return self._free_bytes, 24 * GIB


def config(**fields: Any) -> Config:
    defaults: dict[str, Any] = {"embedding_cache_bytes": 512 * MIB, "gpu_reserve_bytes": GIB, "tp": 1}
    return Config(model="x", model_folder="x", served_name="x", **defaults | fields)


def on_gpu(free_bytes: int, **fields: Any) -> Room:
    return room_for(config(**fields), KIB_A_TOKEN, rank=0, device=GPU, cuda=Card(free_bytes - 100 * MIB))


def test_on_a_cpu_it_is_what_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="mmplane"):
        room = room_for(config(kv_bytes=64 * MIB), KIB_A_TOKEN, rank=0, device=CPU)
    assert [record.getMessage() for record in caplog.records] == ["rank 0: keys and values of 65536 tokens in 64.0 MiB"]
    assert room == Room(64 * MIB // 1024 // BLOCK_TOKENS, 0, KIB_A_TOKEN)
    assert kv_bytes_for("cpu", "hf") == kv_bytes_for("cuda", "null") == KV_BYTES


def test_a_gpu_gives_what_is_free_beside_embeddings_and_the_reserve(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="mmplane"):
        room = on_gpu(10 * GIB, kv_bytes=kv_bytes_for("cuda", "hf"))
    assert room.tokens * 1024 == 10 * GIB - GIB - GIB // 2
    (record,) = caplog.records
    assert record.getMessage() == (
        "rank 0: keys and values of 8912896 tokens in 8.50 GiB; the GPU has 10.00 GiB free, 512.0 MiB of it for "
        "embeddings and 1.00 GiB for steps (--gpu-reserve-bytes)"
    )


def test_kv_bytes_is_the_most_that_a_gpu_gives() -> None:
    assert on_gpu(10 * GIB, kv_bytes=GIB).tokens * 1024 == GIB
    assert on_gpu(2 * GIB, kv_bytes=GIB).tokens * 1024 == GIB // 2


def test_a_full_gpu_is_the_operators_error() -> None:
    with pytest.raises(ValueError, match=r"has 0\.0 MiB .* lower --gpu-reserve-bytes"):
        on_gpu(GIB, kv_bytes=BYTES_MAX)


def agreed(bench: Bench) -> Room:
    """Of two ranks, one has less memory, and one keeps more for each token."""
    rank = bench.ports.rank
    given = config(tp=2, kv_bytes=(64 + rank) * MIB)
    return room_for(given, Sizes(1024 * (1 + rank), 10 - rank), rank=rank, device=CPU)


def test_all_ranks_have_the_same_room() -> None:
    one, other = run_on_two_ranks(agreed)
    assert one == other
    assert one.sizes == Sizes(2048, 10)
    assert one.tokens * 2048 + one.states_bytes <= 64 * MIB


def test_a_gpus_memory_is_taken_at_start() -> None:
    tried, memory, slots = Memory(1, BLOCK_TOKENS), Memory(5, BLOCK_TOKENS), torch.arange(3)
    for layer in (0, 2):
        tried.write(layer, slots, torch.ones(2, 3, 8), torch.ones(2, 3, 4))
    memory.begin(tried)
    assert memory.bytes_per_token == tried.bytes_per_token == 2 * 2 * (8 + 4) * 4
    begun = {layer: [pool.data_ptr() for pool in pools] for layer, pools in memory._layers.items()}
    memory.write(0, slots, torch.ones(2, 3, 8), torch.ones(2, 3, 4))
    assert {layer: [pool.data_ptr() for pool in pools] for layer, pools in memory._layers.items()} == begun
    assert [pool.shape for pool in memory._layers[2]] == [(5, BLOCK_TOKENS, 2, 8), (5, BLOCK_TOKENS, 2, 4)]


LEFT = test_a_gpu_gives_what_is_free_beside_embeddings_and_the_reserve


@pytest.mark.parametrize(
    "mutant",
    [
        Mutant("what torch keeps", sizing.room_for, "cuda.empty_cache()", "pass", LEFT),
        Mutant("embeddings", sizing.room_for, "= config.embedding_cache_bytes", "= 0", LEFT),
        Mutant(
            "the limit",
            sizing.room_for,
            "min(limit_bytes, left_bytes)",
            "left_bytes",
            test_kv_bytes_is_the_most_that_a_gpu_gives,
        ),
        Mutant("the least", sizing._agreed, "ReduceOp.MAX", "ReduceOp.MIN", test_all_ranks_have_the_same_room),
    ],
    ids=str,
)
def test_mutants(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
