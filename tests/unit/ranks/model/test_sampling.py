"""One token from logits: reproducible, within the nucleus, in the right proportions, and without a sort."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import pytest
import torch
from hypothesis import given, strategies
from torch.utils._python_dispatch import TorchDispatchMode

from mmplane.ranks.model import sampling
from mmplane.ranks.model.nucleus import BLOCK
from mmplane.ranks.model.sampling import draw, largest_of
from mmplane.ranks.model.seen import Seen
from mmplane.ranks.model.wanted import Penalties, Wanted

PROBABILITIES = (0.05, 0.5, 0.15, 0.3)
LOGITS = torch.tensor(PROBABILITIES).log()
LARGEST = 1
NAN, INF = float("nan"), float("inf")
NEUTRAL = {"repetition": 1.0, "presence": 0.0, "frequency": 0.0}
VOCABULARY = 1500

logits_lists = strategies.lists(strategies.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=20)
few_values = strategies.lists(strategies.sampled_from([0.0, -0.5, 0.25, 1.0, float("-inf")]), max_size=40)
kinds = strategies.builds(
    Wanted,
    temperature=strategies.sampled_from([0.0, 0.3, 1.0, 2.0]),
    top_p=strategies.sampled_from([0.2, 0.5, 0.9, 1.0]) | strategies.floats(0, 1, exclude_min=True),
    seed=strategies.integers(0, 1000),
    position=strategies.just(7),
    samples=strategies.sampled_from([range(1), range(2, 3), range(4)]),
    top_k=strategies.sampled_from([0, 1, 2, 5, 50, 5000]),
    min_p=strategies.sampled_from([0.0, 0.05, 0.5, 1.0]),
)


def wanted(**options: Any) -> Wanted:
    return Wanted(**({"temperature": 1.0, "top_p": 1.0, "seed": 7, "position": 0} | options))


def one(row: torch.Tensor, how: Wanted) -> int:
    (drawn,) = draw(row[None], [how])
    return drawn.token


def drawn(times: int = 300, logits: torch.Tensor = LOGITS, **options: Any) -> Counter[int]:
    tokens = draw(logits[None], [wanted(samples=range(times), **options)])
    return Counter(drawn.token for drawn in tokens)


@contextmanager
def all_at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a GPU: all rows of a kind by one call."""
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "ONE_BY_ONE", frozenset())
        yield


class Calls(TorchDispatchMode):
    """Which operators ran, and on how many elements at most."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: dict[str, int] = {}

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        elements = max((arg.numel() for arg in args if isinstance(arg, torch.Tensor)), default=0)
        name = operator.overloadpacket.__name__
        self.elements[name] = max(self.elements.get(name, 0), elements)
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize("seed", [0, 1, -5])
def test_temperature_zero_takes_the_largest(seed: int) -> None:
    assert drawn(temperature=0.0, seed=seed) == {LARGEST: 300}


def test_greedy_takes_the_first_of_equal_ones() -> None:
    assert one(torch.tensor([1.0, 3.0, 3.0]), wanted(temperature=0.0)) == 1


@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, -(2**63)])
def test_the_same_seed_gives_the_same_tokens(seed: int) -> None:
    tokens = [one(LOGITS, wanted(seed=seed, position=position)) for position in range(50)]
    assert tokens == [one(LOGITS, wanted(seed=seed, position=position)) for position in range(50)]
    assert len(set(tokens)) > 1


@given(hows=strategies.lists(kinds, min_size=1, max_size=8), order=strategies.randoms())
def test_a_row_gets_the_same_tokens_in_any_company(hows: list[Wanted], order: Any) -> None:
    batch = torch.randn(len(hows), VOCABULARY, generator=torch.Generator().manual_seed(3)) * 3
    alone = [draw(row[None].clone(), [how]) for row, how in zip(batch, hows, strict=True)]
    assert draw(batch, hows) == [*chain(*alone)]
    assert draw(batch.T.contiguous().T, hows) == [*chain(*alone)], "rows that do not lie in one piece"
    shuffled = order.sample(range(len(hows)), len(hows))
    assert draw(batch[shuffled], [hows[at] for at in shuffled]) == [*chain(*(alone[at] for at in shuffled))]


@given(hows=strategies.lists(kinds, min_size=1, max_size=4), rows=strategies.lists(few_values, min_size=4, max_size=4))
def test_all_rows_at_once_as_on_a_gpu_give_the_same_tokens(hows: list[Wanted], rows: list[list[float]]) -> None:
    """The one way sorts the vocabulary, the other does not: they agree where logits are equal and masked too."""
    batch = torch.tensor([(row + [0.125] * 40)[:40] for row in rows])[: len(hows)]
    alone = draw(batch, hows)
    with pytest.MonkeyPatch.context() as patch, all_at_once(patch):
        assert draw(batch, hows) == alone


def test_torchs_own_generator_is_not_touched() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    drawn(10)
    assert torch.equal(torch.get_rng_state(), state)


def test_seed_sample_and_position_each_change_the_draws() -> None:
    uniform = torch.zeros(1000)

    def tokens(seed: int, sample: int, position: int) -> tuple[int, ...]:
        samples = range(sample, sample + 1)
        hows = [wanted(seed=seed, samples=samples, position=position + at) for at in range(5)]
        return tuple(one(uniform, how) for how in hows)

    # (1, 0) and (0, 1) differ too: the parts are not added up.
    runs = [tokens(*parts) for parts in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 100), (1, 1, 0), (-1, 0, 0))]
    assert len(set(runs)) == len(runs)


def test_samples_of_one_row_are_drawn_apart() -> None:
    uniform = torch.zeros(1, 1000)
    together = draw(uniform, [wanted(samples=range(5))])
    assert together == [draw(uniform, [wanted(samples=range(at, at + 1))])[0] for at in range(5)]
    assert len(set(together)) == 5


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_p", [1.0, 0.999999999])
def test_tokens_come_in_proportion(temperature: float, top_p: float) -> None:
    times = 2000
    weights = [probability ** (1 / temperature) for probability in PROBABILITIES]
    counts = drawn(times, temperature=temperature, top_p=top_p)
    for token, weight in enumerate(weights):
        expected = weight / sum(weights)
        # Five standard deviations; the draws are the same on every run.
        assert abs(counts[token] / times - expected) < 5 * (expected * (1 - expected) / times) ** 0.5


@pytest.mark.parametrize(
    ("top_p", "nucleus"),
    [(1e-300, {1}), (0.1, {1}), (0.49, {1}), (0.51, {1, 3}), (0.79, {1, 3}), (0.9, {1, 2, 3}), (1.0, {0, 1, 2, 3})],
)
def test_the_nucleus_is_the_smallest_set_that_reaches_top_p(top_p: float, nucleus: set[int]) -> None:
    assert set(drawn(top_p=top_p)) == nucleus


def test_inside_the_nucleus_the_proportions_stay() -> None:
    counts = drawn(2000, top_p=0.7)
    assert abs(counts[1] / 2000 - 0.5 / 0.8) < 0.04


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"top_k": 1}, {1}),
        ({"top_k": 3}, {1, 2, 3}),
        ({"top_k": 100}, {0, 1, 2, 3}),
        ({"min_p": 0.5}, {1, 3}),
        ({"min_p": 0.2, "top_k": 2}, {1, 3}),
        ({"top_k": 3, "top_p": 0.5}, {1}),
        ({"top_k": 3, "top_p": 0.6}, {1, 3}),
    ],
)
def test_top_p_is_a_part_of_what_top_k_and_min_p_leave(options: dict[str, Any], left: set[int]) -> None:
    assert set(drawn(**options)) == left


def test_a_masked_token_is_never_drawn() -> None:
    logits = LOGITS.clone()
    logits[LARGEST] = float("-inf")
    assert set(drawn(logits=logits)) == {0, 2, 3}
    allowed = torch.tensor([True, False, True, True])
    assert set(drawn(allowed=allowed)) == {0, 2, 3}
    assert set(drawn(allowed=allowed, temperature=0.0)) == {3}
    assert set(drawn(allowed=allowed[:3])) == {0, 2}, "a padded vocabulary is longer than the tokenizer's"
    assert set(drawn(banned=(1, 3))) == {0, 2}


def test_a_bias_moves_the_choice() -> None:
    assert set(drawn(bias={0: 100.0})) == {0}
    assert set(drawn(bias={1: -100.0}, temperature=0.0)) == {3}


@pytest.mark.parametrize(
    ("penalties", "logits"),
    [
        ({"repetition": 2.0}, [-4.0, 1.5, 0.5, 1.0]),
        ({"presence": 0.5}, [-2.5, 3.0, 0.0, 1.0]),
        ({"frequency": 0.5}, [-3.0, 3.0, 0.0, 1.0]),
        ({"presence": 1.0, "frequency": 0.5}, [-4.0, 3.0, -1.0, 1.0]),
    ],
)
def test_penalties_are_those_of_the_interfaces_that_name_them(penalties: dict[str, float], logits: list[float]) -> None:
    """The prompt has token 1; the answer 0 twice, and 2."""
    seen = Seen(torch.tensor([1, 1]))
    for token in (0, 2, 0):
        seen.add(token)
    texts = Penalties(**NEUTRAL | penalties, tokens=seen.tokens, counts=seen.counts)
    row = torch.tensor([-2.0, 3.0, 1.0 if "repetition" in penalties else 0.5, 1.0])
    kept = row.clone()
    (drawn,) = draw(sampling.adjusted(row, wanted(penalties=texts))[None], [wanted(logprobs=4)])
    expected = torch.tensor(logits).log_softmax(-1)
    assert dict(drawn.likely) == pytest.approx(dict(enumerate(expected.tolist())))
    assert torch.equal(row, kept), "the model's logits are left as they are"


def test_penalties_without_a_text_change_nothing() -> None:
    texts = Penalties(repetition=2.0, presence=1.0, frequency=1.0, tokens=Seen().tokens, counts=Seen().counts)
    assert torch.equal(sampling.adjusted(LOGITS, wanted(penalties=texts)), LOGITS)


def test_log_probabilities_are_the_models_own() -> None:
    how = wanted(logprobs=2, temperature=0.1, bias={0: 100.0}, samples=range(2))
    both = draw(LOGITS[None], [how])
    assert [drawn.token for drawn in both] == [0, 0]
    for drawn in both:
        assert drawn.logprob == pytest.approx(torch.log(torch.tensor(0.05)).item())
        assert drawn.likely == tuple((token, pytest.approx(float(LOGITS[token]))) for token in (1, 3))


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-308, 5e-324])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_a_tiny_temperature_is_greedy(temperature: float, top_p: float) -> None:
    """A client may ask for any temperature from 0 to 2: none of them may end a rank."""
    logits = torch.tensor([8.0, 20.0, -3.0, 19.0])
    assert drawn(20, logits, temperature=temperature, top_p=top_p) == {1: 20}


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_logits_that_are_not_finite_touch_no_other_row(broken: float, top_p: float, monkeypatch: Any) -> None:
    batch = torch.stack([LOGITS, torch.tensor([0.0, 1.0, broken, 2.0]), LOGITS])
    hows = [wanted(seed=1, top_p=top_p), wanted(seed=2, top_p=top_p), wanted(seed=3, top_p=top_p)]
    expected = [one(LOGITS, hows[0]), 2, one(LOGITS, hows[2])]
    assert [drawn.token for drawn in draw(batch, hows)] == expected
    with all_at_once(monkeypatch):
        assert [drawn.token for drawn in draw(batch, hows)] == expected


@given(logits=logits_lists, temperature=strategies.floats(0, 2), top_p=strategies.floats(0, 1, exclude_min=True))
def test_every_request_gets_some_token(logits: list[float], temperature: float, top_p: float) -> None:
    token = one(torch.tensor(logits), wanted(temperature=temperature, top_p=top_p))
    assert 0 <= token < len(logits)


@given(logits=logits_lists)
def test_the_least_nucleus_is_greedy(logits: list[float]) -> None:
    row = torch.tensor(logits)
    assert row[one(row, wanted(top_p=1e-9))] == row.max()


def test_greedy_rows_are_read_once_and_copied_never() -> None:
    batch = torch.randn(4, VOCABULARY)
    with Calls() as calls:
        draw(batch, [wanted(temperature=0.0)] * 4)
    views = {"select", "slice", "view", "_local_scalar_dense"}
    copies = {name: count for name, count in calls.elements.items() if name not in views}
    assert copies.pop("amax") == batch.numel() - 4 * (VOCABULARY % BLOCK), "but for what fills no block"
    assert copies.pop("gather") == batch.numel(), "of which it reads a block"
    assert max(copies.values()) <= 4 * BLOCK


@given(
    values=strategies.lists(strategies.sampled_from([0.0, -0.5, 2.0, NAN, INF, -INF]), min_size=1, max_size=6),
    width=strategies.sampled_from([1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 5]),
    order=strategies.randoms(use_true_random=False),
)
def test_the_largest_is_the_one_that_argmax_finds(values: list[float], width: int, order: Any) -> None:
    rows = torch.tensor([[order.choice(values) for _ in range(width)] for _ in range(2)])
    assert largest_of(rows).tolist() == rows.argmax(-1).tolist()


def test_the_vocabulary_is_not_sorted() -> None:
    batch = torch.randn(2, VOCABULARY, generator=torch.Generator().manual_seed(1)) * 3
    with Calls() as calls:
        draw(batch, [wanted()] * 2)
    assert not {"sort", "topk"} & set(calls.elements)
    with Calls() as calls:
        draw(batch, [wanted(top_p=0.9)] * 2)
    assert calls.elements["sort"] < VOCABULARY / 10
