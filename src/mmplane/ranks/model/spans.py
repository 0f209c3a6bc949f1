"""A step's segments in the form that attention takes: which share a call, over which slots, with which mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mmplane.ranks.plan.runs import Run
from mmplane.ranks.plan.step import Segment

TOGETHER_TOKENS_MAX = 192
"""On a CPU, sequences with more tokens are attended one by one.

One call for all reads as much of each as of the longest. For 32 sequences of 40 tokens it is 2.8 times faster, with 240
tokens it is no faster, and beyond 1,000 it is 2 to 5 times slower.
"""
READ_POSITIONS_MAX = 2**17
"""The most positions that one call reads for several sequences, padding included.

A call copies the keys and values that it reads: 4 KB for each position of a layer with 8 heads of 128 in bfloat16.
"""


@dataclass(frozen=True)
class Span:
    """One segment in the packed row: the last `count` positions of a sequence in `slots`, int64 [positions].

    A slot is a position in `mmplane.ranks.model.cache.Memory`. Tokens of one of `runs`, (start, end) in the sequence,
    attend to each other. The segment's end never cuts a run.
    """

    slots: NDArray[np.int64]
    count: int
    runs: tuple[Run, ...] = ()

    @classmethod
    def of(cls, segment: Segment, block_tokens: int, runs: tuple[Run, ...] = ()) -> Span:
        """A segment, and everything before it in its sequence."""
        blocks = np.frombuffer(segment.blocks, np.int64)[:, None] * block_tokens
        slots = (blocks + np.arange(block_tokens)).reshape(-1)
        return cls(slots[: segment.start + segment.count], segment.count, runs)

    @property
    def start(self) -> int:
        """Where the segment begins in the sequence."""
        return len(self.slots) - self.count

    @property
    def written(self) -> NDArray[np.int64]:
        """Where the segment's own keys and values go, int64 [count]."""
        return self.slots[-self.count :]

    def seen(self, window: int | None) -> Span:
        """The segment with what its tokens see of the sequence: at most `window` back, and their runs."""
        runs = [(first, behind) for first, behind in self.runs if behind > self.start and first < len(self.slots)]
        begin = 0
        if window is not None:
            begin = min([max(self.start - window + 1, 0), *(first for first, _ in runs)])
        return Span(self.slots[begin:], self.count, tuple((first - begin, behind - begin) for first, behind in runs))


@dataclass(frozen=True)
class Together:
    """What one call attends to: a segment of one sequence, or one token of each of several.

    Without a mask, one token sees all positions, and several see those up to their own.
    """

    rows: slice | torch.Tensor
    """In the packed row."""
    slots: torch.Tensor
    """int64 [sequences, positions]"""
    mask: torch.Tensor | None


def together(spans: Sequence[Span], window: int | None, device: torch.device) -> list[Together]:
    """The calls of a layer whose tokens see at most the last `window` positions."""
    calls: list[Together] = []
    decoding: dict[int, Span] = {}
    begin = 0
    for span in (each.seen(window) for each in spans):
        if span.count == 1 and (device.type != "cpu" or len(span.slots) <= TOGETHER_TOKENS_MAX):
            decoding[begin] = span
        else:
            slots = torch.from_numpy(span.slots)[None].to(device)
            calls.append(Together(slice(begin, begin + span.count), slots, visible(span, window, device)))
        begin += span.count
    return [*(_decoding(group, device) for group in _grouped(decoding)), *calls]


def _grouped(spans: Mapping[int, Span]) -> Iterator[dict[int, Span]]:
    """The sequences of each call, by row: those of similar length, as many as may share one."""
    group: dict[int, Span] = {}
    for row, span in sorted(spans.items(), key=lambda each: len(each[1].slots)):
        if group and (len(group) + 1) * len(span.slots) > READ_POSITIONS_MAX:
            yield dict(sorted(group.items()))
            group = {}
        group[row] = span
    if group:
        yield dict(sorted(group.items()))


def _decoding(spans: Mapping[int, Span], device: torch.device) -> Together:
    """One token of each of these sequences, by row.

    Shorter sequences are padded with their own positions from the start, under the mask. Another sequence's values may
    be infinite, and no mask removes those from a sum.
    """
    ends = np.array([len(span.slots) for span in spans.values()])
    slots = np.stack([np.resize(span.slots, ends.max()) for span in spans.values()])
    mask = np.arange(ends.max()) < ends[:, None, None, None]
    rows, there, unpadded = (torch.from_numpy(each).to(device) for each in (np.array([*spans]), slots, mask))
    first, last = min(spans), max(spans)
    side_by_side = last - first + 1 == len(spans)
    return Together(slice(first, last + 1) if side_by_side else rows, there, None if mask.all() else unpadded)


def visible(span: Span, window: int | None, device: torch.device) -> torch.Tensor | None:
    """Which of the positions that a segment sees each token sees, bool [count, positions].

    Itself and earlier ones, at most `window` back, and its whole run. None: all, or all earlier ones if it begins at 0.
    """
    end = len(span.slots)
    if span.count == 1 or (span.start == 0 and not span.runs and (window is None or window >= end)):
        return None
    mask = torch.ones(span.count, end, dtype=torch.bool, device=device).tril(span.start)
    if window is not None:
        mask = mask.triu(span.start - window + 1)
    for first, behind in span.runs:
        mask[max(first - span.start, 0) : behind - span.start, first:behind] = True
    return mask
