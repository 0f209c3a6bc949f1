"""The states of recurrent layers follow their sequences: in any company, from the start again, and into samples."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES
from tiny_checkpoint import build
from transformers import AutoModelForMultimodalLM

from mmplane.core.plan import Sampling, Submit
from mmplane.delivery.meter import Meter
from mmplane.ranks.model.cache import Memory
from mmplane.ranks.model.runner import Runner
from mmplane.ranks.model.states import States, bytes_of
from mmplane.ranks.plan.blocks import BLOCK_TOKENS
from mmplane.ranks.plan.loop import LoopClock
from mmplane.ranks.plan.step import Segment
from mutation import mutated

pytestmark = pytest.mark.filterwarnings("ignore")
PROMPTS = ([5, 6, 7, 8, 9, 10, 11, 12, 13], [40, 30, 20, 10, 5])
BLOCKS = 3
"""Of each sequence."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("model")
    build(ARCHITECTURES["qwen3_5"], folder)
    return AutoModelForMultimodalLM.from_pretrained(folder, dtype=torch.float32).eval()


class Sequences:
    """A runner and the prompts of `PROMPTS`, whose segments are computed as a test says."""

    def __init__(self, model: Any) -> None:
        inbox: Any = None
        memory, clock = Memory(8 * BLOCKS, BLOCK_TOKENS), LoopClock(0, Meter())
        self.runner = Runner(model, inbox, memory, rank=0, device=torch.device("cpu"), clock=clock)
        for number, ids in enumerate(PROMPTS):
            sampling = Sampling(tokens_max=4, temperature=0.0, top_p=1.0, seed=0, samples=2)
            submit = Submit(number, np.array(ids, np.int32).tobytes(), None, len(ids), (), (), sampling)
            list(self.runner.prepare(submit, ()))

    def compute(self, *parts: tuple[tuple[int, int], int, int, tuple[int, ...]]) -> torch.Tensor:
        """Logits after each (sequence, start, count, tokens of its answer)."""
        segments = []
        for (request_id, sample), start, count, tokens in parts:
            blocks = array("q", range(place := BLOCKS * (2 * request_id + sample), place + BLOCKS))
            segments.append(Segment((request_id, sample), start, count, tokens, 1, blocks))
        with torch.inference_mode():
            return self.runner.forward(tuple(segments))

    def expected(self, *ids: list[int]) -> torch.Tensor:
        """Logits after each of these texts, by the model itself."""
        return torch.cat([self.runner.reference({"input_ids": torch.tensor([each])}, [len(each)]) for each in ids])


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_sequences_in_one_row(model: Any) -> None:
    one, other = PROMPTS
    sequences = Sequences(model)
    logits = sequences.compute(((0, 0), 0, 4, ()), ((1, 0), 0, 5, ()))
    close(logits, sequences.expected(one[:4], other))
    logits = sequences.compute(((1, 0), 5, 1, (77,)), ((0, 0), 4, 5, ()))
    close(logits, sequences.expected([*other, 77], one))


def test_a_sequence_that_begins_again(model: Any) -> None:
    """It was preempted: its prompt is computed anew, and then the tokens that it had."""
    one, sequences = PROMPTS[0], Sequences(model)
    sequences.compute(((0, 0), 0, 9, ()))
    sequences.compute(((0, 0), 9, 1, (77,)))
    close(sequences.compute(((0, 0), 0, 9, ())), sequences.expected(one))
    close(sequences.compute(((0, 0), 9, 2, (77, 78))), sequences.expected([*one, 77, 78]))


def test_samples_go_on_by_themselves(model: Any) -> None:
    one, sequences = PROMPTS[0], Sequences(model)
    sequences.compute(((0, 0), 0, 9, ()))
    with torch.inference_mode():
        sequences.runner._states.fork([(0, 0), (0, 1)])
        sequences.runner.memory.copy((block, BLOCKS + block) for block in range(BLOCKS))
    logits = sequences.compute(((0, 0), 9, 1, (77,)), ((0, 1), 9, 1, (78,)))
    close(logits, sequences.expected([*one, 77], [*one, 78]))


def test_what_has_ended_is_forgotten(model: Any) -> None:
    sequences = Sequences(model)
    sequences.compute(((0, 0), 0, 9, ()), ((1, 0), 0, 5, ()))
    sequences.runner._states.drop([(0, 0), (1, 0)])
    assert not sequences.runner._states._of


def kept_bytes(runner: Runner) -> int:
    """All memory of the states, each storage counted once."""
    layers = [layer for cache in runner._states._of.values() for layer in cache.layers]
    tensors = [
        each
        for layer in layers
        for name in ("conv_states", "recurrent_states")
        for each in getattr(layer, name, {}).values()
        if each is not None
    ]
    return sum({each.data_ptr(): each.untyped_storage().nbytes() for each in tensors}.values())


def test_every_sequence_keeps_what_the_probe_has_measured(model: Any) -> None:
    """Of any length: the leader counts the same for each of them, and so the memory stays within its limit."""
    measured = Sequences(model)
    measured.compute(((1, 0), 0, 5, ()))
    each_bytes = measured.runner.sizes.sequence_bytes
    assert each_bytes > 0
    sequences = Sequences(model)
    sequences.compute(((0, 0), 0, 9, ()), ((1, 0), 0, 2, ()))
    sequences.runner._states.fork([(0, 0), (0, 1)])
    sequences.compute(((0, 0), 9, 1, (77,)), ((0, 1), 9, 1, (78,)), ((1, 0), 2, 3, ()))
    assert kept_bytes(sequences.runner) == 3 * each_bytes
    assert sequences.runner.sizes.item_bytes == 0


@pytest.mark.parametrize(
    ("function", "piece", "instead", "killer"),
    [
        (
            States.begin,
            "segment.start == 0",
            "segment.sequence not in self._of",
            test_a_sequence_that_begins_again,
        ),
        (
            States.fork,
            "copy.deepcopy(self._of[request_id, 0])",
            "self._of[request_id, 0]",
            test_samples_go_on_by_themselves,
        ),
        (
            States._run,
            "self._of[segment.sequence]",
            "self._of[self._layers.segments[0].sequence]",
            test_sequences_in_one_row,
        ),
        (
            bytes_of,
            "each.values() if isinstance(each, dict) else (each,)",
            "(each,)",
            test_every_sequence_keeps_what_the_probe_has_measured,
        ),
    ],
    ids=["a state that is not reset", "samples that share a state", "a row that shares a state", "not counted"],
)
def test_mutants(function: Any, piece: str, instead: str, killer: Callable[[Any], None], model: Any) -> None:
    with mutated(function, piece, instead), pytest.raises(AssertionError):
        killer(model)
