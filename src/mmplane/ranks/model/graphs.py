"""Decoding as a recorded graph: on a GPU, a step of single tokens is replayed instead of launched kernel by kernel.

A graph repeats the same kernels on the same memory, so its inputs have fixed places and shapes (`Shape`). A step uses
the smallest graph that has room for it. Spare rows write into a slot of their own, and spare positions are masked.
Every graph is recorded at start, because recording takes as long as several steps. All other steps run as without
graphs: those with parts of prompts, and those with more or longer sequences than any graph has.

Weakness: nobody has run this on a GPU yet. The tests replace recording by running the same function again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from mmplane.ranks.model.attention import Calls, PackedAttention
from mmplane.ranks.model.packing import Packed
from mmplane.ranks.model.spans import READ_POSITIONS_MAX, Span, Together
from mmplane.ranks.plan.step import Segment

log = logging.getLogger("mmplane")

SPARE_BLOCKS = 1
"""Memory in addition to the schedule's blocks: its first slot is for spare rows."""
POSITIONS = (1024, 2048, 4096, 8192)
"""The lengths of the sequences of each graph."""

Run = Callable[[], torch.Tensor]
Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Hidden states [1, tokens, size] for ids [tokens] and positions [1 or 3, tokens], by the language model."""


@dataclass(frozen=True)
class Shape:
    """Room for this many sequences of at most this many positions each."""

    sequences: int
    positions: int


def shapes_for(running_max: int) -> list[Shape]:
    """The graphs to record: numbers of sequences are powers of two, and no graph reads more than a call may."""
    powers = [2**power for power in range((running_max - 1).bit_length() + 1)]
    every = [Shape(sequences, positions) for sequences in powers for positions in POSITIONS]
    return [shape for shape in every if shape.sequences * shape.positions <= READ_POSITIONS_MAX]


def fitting(segments: Sequence[Segment], shapes: Iterable[Shape]) -> Shape | None:
    """The smallest of these that has room for a step; None also for a step that computes a part of a prompt."""
    if not all(segment.tokens and segment.count == 1 for segment in segments):
        return None
    longest = max(segment.start + 1 for segment in segments)
    room = [each for each in shapes if each.sequences >= len(segments) and each.positions >= longest]
    return min(room, key=lambda shape: (shape.sequences * shape.positions, shape.sequences), default=None)


@dataclass(frozen=True)
class Recorded:
    """What all graphs have in common: the axes of positions, and a slot in which no sequence keeps anything."""

    axes: int
    spare: int
    device: torch.device


class Inputs:
    """The inputs of one graph."""

    def __init__(self, shape: Shape, how: Recorded) -> None:
        whole: dict[str, Any] = {"dtype": torch.int64, "device": how.device}
        self._spare = how.spare
        self.ids = torch.zeros(shape.sequences, **whole)
        self.positions = torch.zeros(how.axes, shape.sequences, **whole)
        self.written = torch.full((shape.sequences,), how.spare, **whole)
        self._slots = torch.full((shape.sequences, shape.positions), how.spare, **whole)
        self._lengths = torch.ones(shape.sequences, **whole)
        self._places = torch.arange(shape.positions, device=how.device)

    def fill(self, packed: Packed, spans: Sequence[Span]) -> None:
        """Put in a step with one token of each sequence. What is left of an earlier step writes into the spare slot.

        As in any other step, positions beyond a sequence's end are its own: see `mmplane.ranks.model.spans`.
        """
        rows, positions = self._slots.shape
        slots, written, lengths = (np.full(each, self._spare) for each in ((rows, positions), rows, rows))
        lengths[:] = 1
        for row, span in enumerate(spans):
            slots[row] = np.resize(span.slots, positions)
            written[row], lengths[row] = span.slots[-1], len(span.slots)
        self.ids[: len(spans)] = packed.ids
        self.positions[:, : len(spans)] = packed.positions
        pairs = ((self._slots, slots), (self.written, written), (self._lengths, lengths))
        for there, here in pairs:
            there.copy_(torch.from_numpy(here))

    def calls(self, window: int | None) -> list[Together]:
        """The one call of each layer. Its mask is computed in the graph, from the lengths of this step."""
        ends = self._lengths[:, None]
        mask = self._places < ends
        if window is not None:
            mask &= self._places >= ends - window
        return [Together(slice(0, len(ends)), self._slots, mask[:, None, None])]


class Graphs:
    """Recorded graphs. `record` runs a function once and returns what runs it again on the same memory."""

    def __init__(
        self,
        shapes: Iterable[Shape],
        forward: Forward,
        attention: PackedAttention,
        how: Recorded,
        record: Callable[[Run], Run],
    ) -> None:
        self._forward = forward
        self._attention = attention
        self._graphs: dict[Shape, tuple[Inputs, Run]] = {}
        for shape in shapes:
            inputs = Inputs(shape, how)
            self._graphs[shape] = inputs, record(partial(self._run, inputs))
            self._check(shape)

    def run(self, segments: Sequence[Segment], packed: Packed, spans: Sequence[Span]) -> torch.Tensor | None:
        """Hidden states [1, rows, size] after a step, its own rows first. None: no graph has room for it."""
        shape = fitting(segments, self._graphs)
        if shape is None:
            return None
        inputs, replay = self._graphs[shape]
        inputs.fill(packed, spans)
        return replay()

    def _run(self, inputs: Inputs) -> torch.Tensor:
        self._attention.begin(inputs.written, Calls(inputs.calls))
        return self._forward(inputs.ids, inputs.positions)

    def _check(self, shape: Shape) -> None:
        """Another input must give what the model gives without the graph. Raises RuntimeError."""
        inputs, replay = self._graphs[shape]
        inputs.ids.fill_(1)
        replayed, expected = replay().clone(), self._run(inputs)
        if not torch.allclose(replayed, expected, rtol=1e-2, atol=1e-2):
            raise RuntimeError(f"a graph of {shape} gives other values than the model")


class Recorder:
    """Records CUDA graphs, which share one pool of memory."""

    def __init__(self) -> None:  # needs a GPU, so this project's tests do not run it
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Run) -> Run:
        """Record what `run` launches. What replays it returns the same tensor each time."""
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            run()  # libraries allocate what they keep before anything is recorded
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = run()

        def replay() -> torch.Tensor:
            graph.replay()
            return output

        return replay
