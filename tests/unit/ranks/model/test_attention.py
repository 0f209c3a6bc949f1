"""Packed segments with caches must give what plain causal attention gives over each whole sequence."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from mmplane.ranks.model.attention import NAME, PackedAttention
from mmplane.ranks.model.cache import Memory
from mmplane.ranks.model.spans import TOGETHER_TOKENS_MAX, Span, Together, _decoding, _grouped, together
from mmplane.ranks.plan.step import Segment
from mutation import mutated

HEADS, KV_HEADS, HEAD_SIZE = 4, 2, 8
LAYERS = 2
CLOSE: dict[str, float] = {"rtol": 1e-9, "atol": 1e-9}
"""Everything here is float64."""


@dataclass
class Whole:
    """All queries, keys and values of one sequence: [layers, heads, tokens, head size]."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor

    @classmethod
    def draw(cls, tokens: int, seed: int) -> Whole:
        generator = torch.Generator().manual_seed(seed)

        def random(heads: int) -> torch.Tensor:
            return torch.randn(LAYERS, heads, tokens, HEAD_SIZE, generator=generator, dtype=torch.float64)

        return cls(random(HEADS), random(KV_HEADS), random(KV_HEADS))

    def __len__(self) -> int:
        return self.query.shape[2]

    def cut(self, start: int, end: int) -> Whole:
        return Whole(self.query[:, :, start:end], self.key[:, :, start:end], self.value[:, :, start:end])

    def then(self, other: Whole) -> Whole:
        pairs = ((self.query, other.query), (self.key, other.key), (self.value, other.value))
        return Whole(*(torch.cat(pair, dim=2) for pair in pairs))

    def attended(self, window: int | None = None, scaling: float | None = None) -> torch.Tensor:
        """Plain attention by the book: [layers, tokens, heads, head size]."""
        at = torch.arange(len(self))
        mask = at[None] <= at[:, None]
        if window is not None:
            mask &= at[None] > at[:, None] - window
        output = scaled_dot_product_attention(
            self.query, self.key, self.value, attn_mask=mask, scale=scaling, enable_gqa=True
        )
        return output.transpose(1, 2)


BLOCK_TOKENS = 4


class Pool:
    """Memory of which sequences take blocks in any order."""

    def __init__(self, blocks: int = 40, seed: int = 0) -> None:
        self.memory = Memory(blocks, BLOCK_TOKENS)
        self._left = Random(seed).sample(range(blocks), blocks)

    def table(self, tokens: int) -> array[int]:
        return array("q", [self._left.pop() for _ in range(-(-tokens // BLOCK_TOKENS))])


Part = tuple[Whole, "array[int]", int, int]
"""Tokens from start to end of a sequence, which lies in these blocks."""


def span(table: array[int], start: int, end: int) -> Span:
    blocks = table[: -(-end // BLOCK_TOKENS)]
    return Span.of(Segment((1, 0), start, end - start, (), 0, blocks), BLOCK_TOKENS)


def attend(pool: Pool, parts: list[Part], **options: Any) -> list[torch.Tensor]:
    """One step over these parts, all in one packed row: for each, [layers, tokens, heads, head size]."""
    attention = PackedAttention(pool.memory)
    attention.begin_spans(tuple(span(table, start, end) for _, table, start, end in parts))
    cuts = [whole.cut(start, end) for whole, _, start, end in parts]
    layers = []
    for layer in range(LAYERS):
        packed = [
            torch.cat([getattr(cut, name)[layer] for cut in cuts], dim=1)[None] for name in ("query", "key", "value")
        ]
        module: Any = SimpleNamespace(layer_idx=layer)
        output, weights = attention(module, *packed, None, **options)
        assert weights is None
        assert output.shape == (1, sum(map(len, cuts)), HEADS, HEAD_SIZE)
        layers.append(output[0])
    return list(torch.split(torch.stack(layers), [len(cut) for cut in cuts], dim=1))


def chunks(length: int, random: Random) -> list[int]:
    """Where a prompt is cut: any way there is, down to single tokens."""
    cuts = [cut for cut in range(1, length) if random.random() < random.choice((0.1, 0.5, 1.0))]
    return [*cuts, length]


@given(
    lengths=strategies.lists(strategies.integers(1, 12), min_size=1, max_size=4),
    window=strategies.none() | strategies.integers(1, 6),
    seed=strategies.integers(0, 1000),
)
def test_any_split_of_any_sequences_in_any_company(lengths: list[int], window: int | None, seed: int) -> None:
    random = Random(seed)
    wholes = [Whole.draw(length, seed + number) for number, length in enumerate(lengths)]
    pool = Pool(seed=seed)
    tables = [pool.table(length) for length in lengths]
    todo = [chunks(length, random) for length in lengths]
    done = [0] * len(lengths)
    outputs: list[list[torch.Tensor]] = [[] for _ in lengths]
    while any(todo):
        chosen = [number for number, left in enumerate(todo) if left and random.random() < 0.7]
        random.shuffle(chosen)
        parts = [(wholes[number], tables[number], done[number], todo[number].pop(0)) for number in chosen]
        if not parts:
            continue
        for number, part, output in zip(chosen, parts, attend(pool, parts, sliding_window=window), strict=True):
            done[number] = part[3]
            outputs[number].append(output)
    for whole, output in zip(wholes, outputs, strict=True):
        torch.testing.assert_close(torch.cat(output, dim=1), whole.attended(window), **CLOSE)


@pytest.mark.parametrize("window", [None, 4])
def test_a_long_prompt_then_token_by_token(window: int | None) -> None:
    whole, pool = Whole.draw(40, 1), Pool()
    table = pool.table(40)
    cuts = [(0, 24), *((at, at + 1) for at in range(24, 40))]
    outputs = [attend(pool, [(whole, table, *cut)], sliding_window=window)[0] for cut in cuts]
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole.attended(window), **CLOSE)


def test_two_sequences_share_a_block_until_one_writes() -> None:
    prompt, one, other = (Whole.draw(6, seed) for seed in (1, 2, 3))
    pool = Pool()
    table = pool.table(12)
    attend(pool, [(prompt, table, 0, 6)])
    forked = table[:1] + pool.table(8)
    pool.memory.copy([(table[1], forked[1])])
    first, second = prompt.then(one), prompt.then(other)
    outputs = [attend(pool, [(first, table, at, at + 1), (second, forked, at, at + 1)]) for at in range(6, 12)]
    for whole, output in ((first, [pair[0] for pair in outputs]), (second, [pair[1] for pair in outputs])):
        torch.testing.assert_close(torch.cat(output, dim=1), whole.attended()[:, 6:], **CLOSE)


def test_copies_happen_in_order() -> None:
    whole, pool = Whole.draw(12, 1), Pool()
    table = pool.table(12)
    first, second, third = table
    attend(pool, [(whole, table, 0, 12)])
    pool.memory.copy([(second, third), (first, second)])
    keys, _ = pool.memory.read(0, torch.from_numpy(span(table, 0, 12).slots)[None])
    expected = torch.cat([whole.key[0, :, :4], whole.key[0, :, :4], whole.key[0, :, 4:8]], dim=1)
    torch.testing.assert_close(keys[0], expected, rtol=0, atol=0)


def test_the_models_scaling_is_used() -> None:
    whole, pool = Whole.draw(5, 1), Pool()
    (output,) = attend(pool, [(whole, pool.table(5), 0, 5)], scaling=0.3)
    torch.testing.assert_close(output, whole.attended(scaling=0.3), **CLOSE)


def test_other_options_of_models_do_not_disturb() -> None:
    whole, pool = Whole.draw(5, 1), Pool()
    (output,) = attend(pool, [(whole, pool.table(5), 0, 5)], dropout=0.0, position_ids=None, is_causal=True)
    torch.testing.assert_close(output, whole.attended(), **CLOSE)


def test_memory_does_not_grow() -> None:
    """It is one pool from the start: a step that would need more is a bug, not an allocation."""
    whole, pool = Whole.draw(5, 1), Pool()
    with pytest.raises(IndexError):
        attend(pool, [(whole, pool.table(4), 0, 5)])


def test_bytes_per_token_are_those_of_all_layers() -> None:
    pool = Pool()
    attend(pool, [(Whole.draw(3, 1), pool.table(3), 0, 3)])
    assert pool.memory.bytes_per_token == LAYERS * 2 * KV_HEADS * HEAD_SIZE * torch.float64.itemsize


def test_models_find_it_by_name() -> None:
    attention = PackedAttention(Memory(1, BLOCK_TOKENS))
    attention.register()
    assert ALL_ATTENTION_FUNCTIONS[NAME] is attention


def calls(spans: list[Span], window: int | None = None) -> int:
    """How often a layer calls SDPA."""
    return len(together(spans, window, torch.device("cpu")))


def decoding(tokens: int) -> Span:
    return Span(np.arange(tokens), 1)


def test_short_answers_are_attended_in_one_call() -> None:
    short = [decoding(10 + number) for number in range(32)]
    assert calls(short) == 1
    assert calls([*short, Span(np.arange(40), 40), Span(np.arange(90), 30)]) == 3
    assert calls([decoding(TOGETHER_TOKENS_MAX), decoding(TOGETHER_TOKENS_MAX + 1), decoding(2000)]) == 3
    assert calls([decoding(2000), decoding(3000)], window=64) == 1, "no more is read than a token sees"


def test_a_call_reads_a_bounded_number_of_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless one sequence alone has more."""
    monkeypatch.setattr("mmplane.ranks.model.spans.READ_POSITIONS_MAX", 64)
    lengths = [5, 40, 6, 100, 30, 30, 7]
    made = together([decoding(length) for length in lengths], None, torch.device("cpu"))
    assert [tuple(call.slots.shape) for call in made] == [(3, 7), (2, 30), (1, 40), (1, 100)]
    rows = torch.arange(len(lengths))
    assert torch.cat([rows[call.rows] for call in made]).tolist() == [0, 2, 6, 4, 5, 1, 3]
    monkeypatch.setattr("mmplane.ranks.model.spans.READ_POSITIONS_MAX", 16)
    test_any_split_of_any_sequences_in_any_company()


def test_layers_share_what_a_step_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    made: Counter[int | None] = Counter()

    def counted(spans: Any, window: int | None, device: torch.device) -> list[Together]:
        made[window] += 1
        return together(spans, window, device)

    monkeypatch.setattr("mmplane.ranks.model.attention.together", counted)
    whole, pool = Whole.draw(12, 1), Pool()
    attend(pool, [(whole, pool.table(12), 0, 12)])
    assert made == {None: 1}, f"once for {LAYERS} layers"


def test_what_another_sequence_keeps_does_not_leak_in() -> None:
    """Where memory holds what is no number, it is not read: no mask would take it out of a sum."""
    broken, short, long, pool = Whole.draw(8, 1), Whole.draw(3, 2), Whole.draw(11, 3), Pool(blocks=5)
    for tensor in (broken.query, broken.key, broken.value):
        tensor.fill_(torch.nan)
    for table in (array("q", [0, 1]), array("q", [2, 3]), array("q", [4, 0])):
        attend(pool, [(broken, table, 0, 8)])
    tables = array("q", [3]), array("q", [1, 2, 4])
    attend(pool, [(short, tables[0], 0, 2), (long, tables[1], 0, 10)])
    outputs = attend(pool, [(short, tables[0], 2, 3), (long, tables[1], 10, 11)])
    for whole, output in zip((short, long), outputs, strict=True):
        torch.testing.assert_close(output, whole.attended()[:, -1:], **CLOSE)


@pytest.mark.parametrize(
    ("function", "piece", "instead", "killer"),
    [
        (_decoding, "np.resize(span.slots, ends.max())", "np.pad(span.slots, (0, ends.max() - len(span.slots)))", 0),
        (together, "len(span.slots) <= TOGETHER_TOKENS_MAX", "False", 1),
        (_decoding, "np.arange(ends.max()) < ends", "np.arange(ends.max()) <= ends", 2),
        (_grouped, "(len(group) + 1)", "1", 3),
    ],
    ids=["padding reads another's", "each by itself", "a mask too wide", "padding is not counted"],
)
def test_mutants(function: Any, piece: str, instead: str, killer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    killers = (
        test_what_another_sequence_keeps_does_not_leak_in,
        test_short_answers_are_attended_in_one_call,
        test_any_split_of_any_sequences_in_any_company,
        partial(test_a_call_reads_a_bounded_number_of_positions, monkeypatch),
    )
    with mutated(function, piece, instead), pytest.raises(AssertionError):
        killers[killer]()
