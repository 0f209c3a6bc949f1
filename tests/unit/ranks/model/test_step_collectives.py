"""How many collectives a step enters: as many for one sequence as for thirty-two."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
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
from mmplane.ranks.model.divided import call_directly
from mmplane.ranks.model.gathering import Gathering
from mmplane.ranks.model.runner import Runner
from mmplane.ranks.model.sums import Collectives
from mmplane.ranks.plan.blocks import BLOCK_TOKENS
from mmplane.ranks.plan.loop import LoopClock
from mmplane.ranks.plan.step import Segment, Step
from mutation import Mutant, check_it_is_killed

PROMPT_TOKENS = 5
GREEDY = Sampling(tokens_max=4, temperature=0.0, top_p=1.0, seed=0, samples=1)
SAMPLED = Sampling(tokens_max=4, temperature=1.0, top_p=1.0, seed=0, samples=1)


class Sent(Gathering):
    """Rank 0 of two; the other one has sent the same. Counts the gatherings, by the numbers that the other sends."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 2
        self.numbers: list[int] = []

    def gather(self, part: torch.Tensor, widths: Sequence[int]) -> torch.Tensor:
        assert part.shape[1] == widths[0] == widths[1]
        self.numbers.append(part.numel())
        return torch.cat([part, part], dim=1)


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
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Any]]:
    """Loads one rank's share of a model for two: its collectives are entered, and move nothing."""
    folder: Path = tmp_path_factory.mktemp("model")
    build_tiny(folder)
    group = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in group.items():
            patch.setitem(os.environ, name, value)
        dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
        parallel = DistributedConfig(tp_size=2, tp_plan="auto")
        options = {"attn_implementation": "sdpa", "dtype": torch.float32, "distributed_config": parallel}
        try:
            yield lambda: AutoModelForMultimodalLM.from_pretrained(folder, **options).eval()
        finally:
            dist.destroy_process_group()


@pytest.fixture(scope="module")
def model(load: Callable[[], Any]) -> Any:
    """As ranks have it."""
    model = load()
    call_directly(model)
    return model


def runner_of(model: Any, *samplings: Sampling, gathering: Gathering | None = None) -> Runner:
    """A rank that has prepared a request of each."""
    inbox: Any = None
    options: dict[str, Any] = {"rank": 0, "device": torch.device("cpu"), "clock": LoopClock(0), "gathering": gathering}
    runner = Runner(model, inbox, Memory(len(samplings), BLOCK_TOKENS), **options)
    ids = np.arange(1, 1 + PROMPT_TOKENS, dtype=np.int32).tobytes()
    for request_id, sampling in enumerate(samplings):
        list(runner.prepare(Submit(request_id, ids, None, PROMPT_TOKENS, (), (), sampling), ()))
    return runner


def entered(model: Any, *samplings: Sampling) -> list[tuple[int, list[int]]]:
    """Entered by a step that computes a prompt of each, and by the next one, which computes a token of each.

    With the numbers that another rank sends to rank 0 each time.
    """
    sent, sequences = Sent(), len(samplings)
    runner = runner_of(model, *samplings, gathering=sent)
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
        counts.append((seen.count, sent.numbers[:]))
        sent.numbers.clear()
    return counts


def test_collectives_do_not_grow_with_sequences(model: Any) -> None:
    settings = model.config.get_text_config()
    once = 1 + 2 * settings.num_hidden_layers  # the embedding, attention and feed-forward of each layer
    half = settings.vocab_size // 2
    for count in (1, 32):
        assert entered(model, *[GREEDY] * count) == [(once, [2 * count])] * 2, "a logit and its index of each"
        assert entered(model, *[SAMPLED] * count) == [(once, [half * count])] * 2
        mixed = [GREEDY, SAMPLED] * count
        assert entered(model, *mixed) == [(once, [2 * count, half * count])] * 2


def test_layers_take_their_sums_our_way(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    class Counted:
        def take(self, tensor: torch.Tensor) -> bool:
            taken.append(tensor.nbytes)
            return True

    sums: Any = Counted()
    monkeypatch.setattr(tensor_parallel, "dist", Collectives(sums))
    layers = model.config.get_text_config().num_hidden_layers
    assert [count for count, _ in entered(model, GREEDY)] == [0, 0]
    assert len(taken) == 2 * (1 + 2 * layers)


def test_layers_are_called_without_transformers_hooks_and_compute_the_same(
    load: Callable[[], Any], model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = (Segment((0, 0), 0, PROMPT_TOKENS, (), 1, array("q", [0])),)
    with torch.inference_mode():
        hooked = runner_of(load(), GREEDY)._hidden(segments)
        monkeypatch.setattr(tensor_parallel, "_use_local_dtensor_params", None)
        assert torch.equal(runner_of(model, GREEDY)._hidden(segments), hooked)


def test_an_embedding_for_each_sequence_is_found_out(request: pytest.FixtureRequest) -> None:
    killer = test_collectives_do_not_grow_with_sequences
    piece, instead = "self._embed(ids)", "torch.cat([self._embed(one) for one in torch.split(ids, 1)])"
    check_it_is_killed(Mutant("tokens are looked up one by one", Runner._through, piece, instead, killer), request)


def test_logits_that_nobody_needs_are_found_out(request: pytest.FixtureRequest) -> None:
    killer = test_collectives_do_not_grow_with_sequences
    piece, instead = "return self._prompts", "return False and self._prompts"
    mutant = Mutant("greedy rows are moved whole", Runner._takes_largest, piece, instead, killer)
    check_it_is_killed(mutant, request)
