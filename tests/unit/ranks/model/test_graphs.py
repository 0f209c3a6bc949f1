"""Decoding by recorded graphs gives what decoding without them gives. Here, recording is running again."""

from __future__ import annotations

import logging
from array import array
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForMultimodalLM

from mmplane.core.plan import Sampling, Submit
from mmplane.delivery.meter import Meter
from mmplane.models.tiny import build_tiny
from mmplane.ranks.model.attention import Calls, PackedAttention
from mmplane.ranks.model.cache import Memory
from mmplane.ranks.model.graphs import SPARE_BLOCKS, Inputs, Recorded, Run, Shape, fitting, shapes_for
from mmplane.ranks.model.packing import Packed
from mmplane.ranks.model.recording import record_decoding
from mmplane.ranks.model.runner import Runner
from mmplane.ranks.model.spans import READ_POSITIONS_MAX, Span
from mmplane.ranks.plan.blocks import BLOCK_TOKENS
from mmplane.ranks.plan.loop import LoopClock
from mmplane.ranks.plan.step import Segment
from mutation import Mutant, check_it_is_killed

CPU = torch.device("cpu")
PROMPTS = ([5, 6, 7, 8, 9, 10, 11, 12, 13], [40, 30, 20, 10, 5], [3] * 20)
BLOCKS = 3
"""Of each sequence."""
SHAPES = (Shape(1, 32), Shape(2, 32), Shape(4, 48))


def token(start: int, sequence: int = 0) -> Segment:
    return Segment((sequence, 0), start, 1, (7,), 1)


# Which graph a step uses.


@pytest.mark.parametrize("running_max", [1, 2, 31, 32, 512])
def test_every_number_of_sequences_has_a_graph_that_reads_a_bounded_number_of_positions(running_max: int) -> None:
    shapes = shapes_for(running_max)
    assert len({*shapes}) == len(shapes)
    assert max(shape.sequences * shape.positions for shape in shapes) <= READ_POSITIONS_MAX
    for count in range(1, min(running_max, 128) + 1):
        shape = fitting([token(9, number) for number in range(count)], shapes)
        assert shape is not None
        assert count <= shape.sequences < 2 * count


@pytest.mark.parametrize(
    ("starts", "shape"),
    [
        ([0], Shape(1, 32)),
        ([31], Shape(1, 32)),
        ([32], Shape(4, 48)),
        ([3, 31], Shape(2, 32)),
        ([3, 31, 5], Shape(4, 48)),
        ([47] * 4, Shape(4, 48)),
        ([48], None),
        ([3] * 5, None),
    ],
)
def test_a_step_uses_the_smallest_graph_with_room(starts: list[int], shape: Shape | None) -> None:
    assert fitting([token(start, number) for number, start in enumerate(starts)], SHAPES) == shape


@pytest.mark.parametrize(
    "other",
    [Segment((1, 0), 4, 1, (), 1), Segment((1, 0), 4, 3, (), 0), Segment((1, 0), 4, 2, (7, 8), 1)],
    ids=["the last token of a prompt", "a part of a prompt", "an answer that is computed again"],
)
def test_a_step_with_anything_but_newest_tokens_uses_none(other: Segment) -> None:
    assert fitting([token(3), other], SHAPES) is None


# What a graph computes.

HEADS, KV_HEADS, SIZE = 4, 2, 8


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    window=st.none() | st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_attention_in_a_graph_is_that_of_any_step(lengths: list[int], window: int | None, seed: int) -> None:
    """Also after another step, of which more rows are left, and where nothing but the spare slot is no number."""
    torch.manual_seed(seed)
    memory, spare = Memory(13, BLOCK_TOKENS), 12 * BLOCK_TOKENS
    attention, inputs = PackedAttention(memory), Inputs(Shape(4, 48), Recorded(1, spare, CPU))
    spans = [Span(np.random.default_rng(seed + at).permutation(48) + 48 * at, 1) for at in range(4)]
    keys, values = torch.randn(2, KV_HEADS, spare, SIZE, dtype=torch.float64)
    memory.write(0, torch.arange(spare), keys, values)
    inputs.fill(packed(4), spans)
    spans = [Span(span.slots[:length], 1) for span, length in zip(spans, lengths, strict=False)]
    module: Any = SimpleNamespace(layer_idx=0)
    rows = [torch.randn(1, heads, 4, SIZE, dtype=torch.float64) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    inputs.fill(packed(len(spans)), spans)
    attention.begin(inputs.written, Calls(inputs.calls))
    found, _ = attention(module, *rows, None, sliding_window=window)
    attention.begin_spans(spans)
    expected, _ = attention(module, *(each[:, :, : len(spans)] for each in rows), None, sliding_window=window)
    torch.testing.assert_close(found[:, : len(spans)], expected, rtol=1e-9, atol=1e-9)
    untouched = np.setdiff1d(np.arange(spare), [span.slots[-1] for span in spans])
    torch.testing.assert_close(memory.read(0, torch.from_numpy(untouched)[None])[0][0], keys[:, untouched])


def packed(count: int) -> Packed:
    return Packed(torch.zeros(count, dtype=torch.int64), torch.zeros(1, count, dtype=torch.int64), [], [])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("tiny")
    build_tiny(folder)
    return AutoModelForMultimodalLM.from_pretrained(folder, dtype=torch.float32).eval()


class Sequences:
    """A runner and the prompts of `PROMPTS`, whose tokens are computed as a test says."""

    def __init__(self, model: Any) -> None:
        blocks, inbox = BLOCKS * len(PROMPTS), cast("Any", None)
        memory, clock = Memory(blocks + SPARE_BLOCKS, BLOCK_TOKENS), LoopClock(0, Meter())
        self.runner = Runner(model, inbox, memory, rank=0, device=CPU, clock=clock)
        for number, ids in enumerate(PROMPTS):
            sampling = Sampling(tokens_max=4, temperature=0.0, top_p=1.0, seed=0, samples=1)
            submit = Submit(number, np.array(ids, np.int32).tobytes(), None, len(ids), (), (), sampling)
            list(self.runner.prepare(submit, ()))
        self.how = Recorded(self.runner.axes, blocks * BLOCK_TOKENS, CPU)

    def compute(self, *parts: tuple[int, int, int, tuple[int, ...]]) -> torch.Tensor:
        """Logits after each (sequence, start, count, tokens of its answer)."""
        segments = []
        for number, start, count, tokens in parts:
            blocks = array("q", range(BLOCKS * number, BLOCKS * (number + 1)))
            segments.append(Segment((number, 0), start, count, tokens, 1, blocks))
        with torch.inference_mode():
            return self.runner.forward(tuple(segments))

    def decode(self) -> list[torch.Tensor]:
        """Logits of a few steps: prompts, then one, two and three answers, and one again."""
        steps = [
            [(number, 0, len(ids), ()) for number, ids in enumerate(PROMPTS)],
            [(1, 5, 1, (70,))],
            [(0, 9, 1, (71,)), (1, 6, 1, (72,))],
            [(2, 20, 1, (73,)), (1, 7, 1, (74,)), (0, 10, 1, (75,))],
            [(2, 21, 1, (76,))],
        ]
        return [self.compute(*cast("Any", step)) for step in steps]


def test_answers_are_the_same_with_graphs(model: Any) -> None:
    plain, recorded, used = Sequences(model).decode(), Sequences(model), Counter[int]()

    def record(run: Run) -> Run:
        number = len(used)
        used[number] = 0

        def replay() -> torch.Tensor:
            used[number] += 1
            return run()

        run()
        return replay

    recorded.runner.record(SHAPES, recorded.how, record)
    tried = used.copy()
    for theirs, ours in zip(plain, recorded.decode(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert used - tried == Counter({0: 2, 1: 1, 2: 1})


def test_a_graph_that_does_not_follow_its_inputs_is_found_at_start(model: Any) -> None:
    def stale(run: Run) -> Run:
        first = run()
        return lambda: first

    sequences = Sequences(model)
    with pytest.raises(RuntimeError, match="gives other values than the model"):
        sequences.runner.record(SHAPES, sequences.how, stale)


# When nothing is recorded.


def told(caplog: pytest.LogCaptureFixture, runner: Any, tp: int, recorder: Any) -> str:
    with caplog.at_level(logging.INFO, logger="mmplane"):
        record_decoding(runner, Recorded(1, 0, CPU), running_max=2, tp=tp, recorder=recorder)
    (record,) = caplog.records
    return record.getMessage()


@pytest.mark.parametrize(
    ("tp", "keeps_states", "why"),
    [(2, False, "several ranks are not covered"), (1, True, "the model's layers keep more than keys and values")],
)
def test_what_is_not_covered_is_said(tp: int, keeps_states: bool, why: str, caplog: pytest.LogCaptureFixture) -> None:
    said = told(caplog, SimpleNamespace(keeps_states=keeps_states), tp, pytest.fail)
    assert said == f"decoding is not recorded as CUDA graphs: {why}"


def test_a_model_that_cannot_be_recorded_decodes_without(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(run: Run) -> Run:
        raise RuntimeError("operation not permitted when stream is capturing")

    plain, sequences = Sequences(model).decode(), Sequences(model)
    assert "it runs without them" in told(caplog, sequences.runner, 1, lambda: refuse)
    for theirs, ours in zip(plain, sequences.decode(), strict=True):
        torch.testing.assert_close(ours, theirs)


SAME, ATTENTION = test_answers_are_the_same_with_graphs, test_attention_in_a_graph_is_that_of_any_step


@pytest.mark.parametrize(
    "mutant",
    [
        Mutant("a mask too wide", Inputs.calls, "self._places < ends", "self._places <= ends", ATTENTION),
        Mutant("a window too wide", Inputs.calls, ">= ends - window", "> ends - window - 2", ATTENTION),
        Mutant("rows of an earlier step", Inputs.fill, "(self.written, written),", "", ATTENTION),
        Mutant("lengths of an earlier step", Inputs.fill, ", (self._lengths, lengths)", "", ATTENTION),
        Mutant("ids of an earlier step", Inputs.fill, "= packed.ids", "= self.ids[: len(spans)]", SAME),
        Mutant("positions", Inputs.fill, "= packed.positions", "= 0", SAME),
    ],
    ids=str,
)
def test_mutants(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
