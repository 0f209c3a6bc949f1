"""How many collectives a step enters: as many for one sequence as for thirty-two."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForMultimodalLM, DistributedConfig
from transformers.distributed import tensor_parallel

from mmplane.core.plan import Sampling, Submit
from mmplane.models.tiny import build_tiny
from mmplane.ranks.model.cache import Memory
from mmplane.ranks.model.runner import Runner
from mmplane.ranks.model.sums import Collectives
from mmplane.ranks.plan.blocks import BLOCK_TOKENS
from mmplane.ranks.plan.loop import LoopClock
from mmplane.ranks.plan.step import Segment, Step
from mutation import Mutant, check_it_is_killed

PROMPT_TOKENS = 5
SAMPLING = Sampling(tokens_max=4, temperature=0.0, top_p=1.0, seed=0, samples=1)


class Entered(TorchDispatchMode):
    """Counts those that are entered: neither waits nor wrappers of results."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if DTensor in types:
            return NotImplemented  # it comes again, as what is done with its local tensors
        enters = operator.namespace in ("c10d", "_c10d_functional")
        self.count += enters and "wait" not in operator.__name__ and "wrap" not in operator.__name__
        return operator(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One rank's share of a model for two: its collectives are entered, and move nothing."""
    folder: Path = tmp_path_factory.mktemp("model")
    build_tiny(folder)
    group = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in group.items():
            patch.setitem(os.environ, name, value)
        dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
        parallel = DistributedConfig(tp_size=2, tp_plan="auto")
        try:
            yield AutoModelForMultimodalLM.from_pretrained(
                folder, attn_implementation="sdpa", dtype=torch.float32, distributed_config=parallel
            ).eval()
        finally:
            dist.destroy_process_group()


def entered(model: Any, sequences: int) -> tuple[int, int]:
    """Entered by a step that computes so many prompts, and by the next one, which computes a token of each."""
    inbox: Any = None
    runner = Runner(
        model, inbox, Memory(sequences, BLOCK_TOKENS), rank=0, device=torch.device("cpu"), clock=LoopClock(0)
    )
    ids = np.arange(1, 1 + PROMPT_TOKENS, dtype=np.int32).tobytes()
    for request_id in range(sequences):
        list(runner.prepare(Submit(request_id, ids, None, PROMPT_TOKENS, (), (), SAMPLING), ()))
    counts = []
    for start, count, tokens in ((0, PROMPT_TOKENS, ()), (PROMPT_TOKENS, 1, (7,))):
        segments = tuple(
            Segment((request_id, 0), start, count, tokens, 1, array("q", [request_id]))
            for request_id in range(sequences)
        )
        drawn = tuple(segment.sequence for segment in segments)
        with Entered() as seen:
            answers = runner.run(Step(1, (), (), (), segments, drawn))
        assert len(answers) == sequences
        counts.append(seen.count)
    return counts[0], counts[1]


def test_collectives_do_not_grow_with_sequences(model: Any) -> None:
    layers = model.config.get_text_config().num_hidden_layers
    once = 1 + 2 * layers + 1  # the embedding, attention and feed-forward of each layer, the logits
    assert entered(model, 1) == (once, once)
    assert entered(model, 32) == (once, once)


def test_layers_take_their_sums_our_way(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    class Counted:
        def take(self, tensor: torch.Tensor) -> bool:
            taken.append(tensor.nbytes)
            return True

    sums: Any = Counted()
    monkeypatch.setattr(tensor_parallel, "dist", Collectives(sums))
    layers = model.config.get_text_config().num_hidden_layers
    assert entered(model, 1) == (2, 2), "the embedding and the logits"
    assert len(taken) == 2 * 2 * layers


def test_an_embedding_for_each_sequence_is_found_out(request: pytest.FixtureRequest) -> None:
    killer = test_collectives_do_not_grow_with_sequences
    piece, instead = "self._embed(packed.ids)", "torch.cat([self._embed(one) for one in torch.split(packed.ids, 1)])"
    check_it_is_killed(Mutant("tokens are looked up one by one", Runner.forward, piece, instead, killer), request)
