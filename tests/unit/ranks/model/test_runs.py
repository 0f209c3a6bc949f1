"""Tokens of an image that attend to each other: chunks give what whole attention gives, and cut no image."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies
from torch.nn.functional import scaled_dot_product_attention

from mmplane.core.plan import Plan, Sampling, Submit
from mmplane.core.records import Item, Slot
from mmplane.ranks.model.attention import PackedAttention
from mmplane.ranks.model.cache import Memory
from mmplane.ranks.model.spans import Span, visible
from mmplane.ranks.plan import runs as runs_module
from mmplane.ranks.plan.blocks import Blocks
from mmplane.ranks.plan.runs import Run, before, image_runs, whole
from mmplane.ranks.plan.schedule import Schedule
from mutation import mutated

BLOCK_TOKENS = 4


@strategies.composite
def prompts(draw: strategies.DrawFn) -> tuple[int, tuple[Run, ...]]:
    """A prompt's length, and runs in it."""
    found, at = [], 0
    for gap, length in draw(strategies.lists(strategies.tuples(strategies.integers(0, 5), strategies.integers(1, 9)))):
        found.append((at + gap, at + gap + length))
        at += gap + length
    return at + draw(strategies.integers(1, 5)), tuple(found)


def cut(length: int, runs: tuple[Run, ...], chunk_tokens: int) -> list[Run]:
    cuts, end = [], 0
    while (start := end) < length:
        end = whole(runs, min(start + chunk_tokens, length))
        cuts.append((start, end))
    return cuts


@given(prompts(), strategies.integers(1, 7))
def test_no_chunk_cuts_a_run(prompt: tuple[int, tuple[Run, ...]], chunk_tokens: int) -> None:
    length, runs = prompt
    for start, end in cut(length, runs, chunk_tokens):
        assert not any(first < end < behind for first, behind in runs)
        assert before(runs, end) == end
        longest = max((behind - first for first, behind in runs), default=0)
        assert end - start <= chunk_tokens + longest


def attended(length: int, runs: tuple[Run, ...], window: int | None, cuts: list[Run]) -> tuple[Any, Any]:
    """What chunks give, and plain attention with the mask by the book: [1, heads, tokens, head size]."""
    query, key, value = torch.randn(3, 1, 2, length, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at = torch.arange(length)
    mask = at[None] <= at[:, None]
    if window is not None:
        mask &= at[None] > at[:, None] - window
    for first, behind in runs:
        mask[first:behind, first:behind] = True
    packed = PackedAttention(Memory(length, BLOCK_TOKENS))
    module: Any = SimpleNamespace(layer_idx=0)
    outputs = []
    for start, end in cuts:
        packed.begin_spans((Span(np.arange(end), end - start, runs),))
        part = (each[:, :, start:end] for each in (query, key, value))
        outputs.append(packed(module, *part, None, sliding_window=window)[0].transpose(1, 2))
    return torch.cat(outputs, dim=2), scaled_dot_product_attention(query, key, value, attn_mask=mask)


@given(prompts(), strategies.integers(1, 7), strategies.none() | strategies.integers(1, 6))
def test_chunks_give_what_whole_attention_gives(
    prompt: tuple[int, tuple[Run, ...]], chunk_tokens: int, window: int | None
) -> None:
    length, runs = prompt
    chunks, book = attended(length, runs, window, cut(length, runs, chunk_tokens))
    torch.testing.assert_close(chunks, book, rtol=1e-9, atol=1e-9)


def test_a_chunk_may_begin_inside_a_run() -> None:
    """It does where blocks are reused: the keys of the first half lie in memory, and were computed with the second."""
    query, key, value = torch.randn(3, 1, 2, 12, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    packed = PackedAttention(Memory(3, BLOCK_TOKENS))
    module: Any = SimpleNamespace(layer_idx=0)
    runs = ((2, 10),)
    packed.begin_spans((Span(np.arange(12), 12, runs),))
    once, _ = packed(module, query, key, value, None)
    packed.begin_spans((Span(np.arange(12), 8, runs),))
    again, _ = packed(module, query[:, :, 4:], key[:, :, 4:], value[:, :, 4:], None)
    torch.testing.assert_close(again, once[:, 4:])


# The schedule.


def request(request_id: int, prompt_tokens: int, *runs: tuple[int, int]) -> Submit:
    """With one image at each run (start, length)."""
    items = tuple(Item(b"", "image", Slot(0, 0, 0, 0), ()) for _ in runs)
    sampling = Sampling(9, 0.0, 1.0, 0, 1)
    return Submit(request_id, b"", None, prompt_tokens, items, tuple((run,) for run in runs), sampling)


def steps(schedule: Schedule, *requests: Submit) -> list[tuple[tuple[int, int, int], ...]]:
    """(request, start, end) of each segment of prompts, until all are computed."""
    schedule.apply(Plan(1, (), (), (), requests))
    found, admit, drawn = [], tuple(each.request_id for each in requests), 0
    left = sum(each.prompt_tokens for each in requests)
    while left:
        assert len(found) < 10
        step = schedule.apply(Plan(schedule.number + 1, (0,) * drawn, (), admit, ()))
        part = tuple(
            (each.sequence[0], each.start, each.start + each.count) for each in step.segments if not each.tokens
        )
        found.append(part)
        left -= sum(end - start for _, start, end in part)
        admit, drawn = (), len(step.drawn)
    return found


def test_a_step_takes_one_image_more_rather_than_part_of_it() -> None:
    schedule = Schedule(4, Blocks(64), whole_runs=True)
    one, other = request(1, 12, (2, 7)), request(2, 5, (0, 2))
    assert steps(schedule, one, other) == [((1, 0, 9),), ((1, 9, 12), (2, 0, 2)), ((2, 2, 5),)]
    assert steps(Schedule(4, Blocks(64)), one, other)[0] == ((1, 0, 4),)


def test_an_image_for_which_memory_is_short_waits() -> None:
    """A step that has blocks for half of it stops in front of it."""
    schedule = Schedule(64, Blocks(3), whole_runs=True)
    old, young = request(1, 20), request(2, 28, (10, 12))
    schedule.apply(Plan(1, (), (), (), (old,)))
    schedule.apply(Plan(2, (), (), (1,), (young,)))
    step = schedule.apply(Plan(3, (0,), (), (2,), ()))
    assert all(not each.start < 10 < each.start + each.count < 22 for each in step.segments)
    assert not any(10 < each.start + each.count < 22 for each in step.segments if each.sequence == (2, 0))


# Mutants.


def test_sounds_are_no_runs() -> None:
    sound = Item(b"", "audio", Slot(0, 0, 0, 0), ())
    submit = request(1, 20, (2, 3))
    mixed = Submit(1, b"", None, 20, (*submit.items, sound), (*submit.placeholders, ((9, 4),)), submit.sampling)
    assert image_runs(mixed) == ((2, 5),)


@pytest.mark.parametrize(
    ("function", "piece", "instead", "killer"),
    [
        (
            visible,
            "for first, behind in span.runs:",
            "for first, behind in ():",
            test_chunks_give_what_whole_attention_gives,
        ),
        (runs_module.whole, "start < end < behind", "False", test_chunks_give_what_whole_attention_gives),
        (runs_module.whole, "start < end < behind", "False", test_a_step_takes_one_image_more_rather_than_part_of_it),
    ],
    ids=["a mask without the run", "a run that is cut", "a schedule that cuts a run"],
)
def test_mutants(function: Any, piece: str, instead: str, killer: Any) -> None:
    with mutated(function, piece, instead), pytest.raises(Exception, match=r"."):
        killer()
