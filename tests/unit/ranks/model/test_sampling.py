"""One token from logits: reproducible, within the nucleus, and in the right proportions."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, strategies

from mmplane.core.plan import Sampling
from mmplane.ranks.model.sampling import draw

PROBABILITIES = (0.05, 0.5, 0.15, 0.3)
LOGITS = torch.tensor(PROBABILITIES).log()
LARGEST = 1

logits_lists = strategies.lists(strategies.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=20)


def sampling(temperature: float = 1.0, top_p: float = 1.0, seed: int = 7) -> Sampling:
    return Sampling(tokens_max=1, temperature=temperature, top_p=top_p, seed=seed, samples=1)


def drawn(how: Sampling, times: int = 300, logits: torch.Tensor = LOGITS) -> Counter[int]:
    return Counter(draw(logits, how, sample=0, position=position) for position in range(times))


@pytest.mark.parametrize("seed", [0, 1, -5])
def test_temperature_zero_takes_the_largest(seed: int) -> None:
    assert drawn(sampling(temperature=0.0, seed=seed)) == {LARGEST: 300}


@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, -(2**63)])
def test_the_same_seed_gives_the_same_tokens(seed: int) -> None:
    how = sampling(seed=seed)
    one = [draw(LOGITS, how, sample=0, position=position) for position in range(50)]
    assert one == [draw(LOGITS, how, sample=0, position=position) for position in range(50)]
    assert len(set(one)) > 1


def test_nothing_else_in_the_batch_or_the_process_changes_a_draw() -> None:
    batch = torch.randn(8, 320, generator=torch.Generator().manual_seed(3))
    alone = [draw(row.clone(), sampling(), sample=2, position=9) for row in batch]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert [draw(row, sampling(), sample=2, position=9) for row in batch] == alone
    assert [draw(column, sampling(), sample=2, position=9) for column in batch.T.contiguous().T] == alone
    assert torch.equal(torch.get_rng_state(), state), "torch's own generator is not touched"


def test_seed_sample_and_position_each_change_the_draws() -> None:
    uniform = torch.zeros(1000)

    def tokens(seed: int, sample: int, position: int) -> list[int]:
        return [draw(uniform, sampling(seed=seed), sample=sample, position=position + at) for at in range(5)]

    # (1, 0) and (0, 1) differ too: the parts are not added up.
    runs = [tokens(*parts) for parts in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 100), (1, 1, 0), (-1, 0, 0))]
    assert len(set(map(tuple, runs))) == len(runs)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_in_proportion(temperature: float) -> None:
    times = 4000
    weights = [probability ** (1 / temperature) for probability in PROBABILITIES]
    counts = drawn(sampling(temperature=temperature), times)
    for token, weight in enumerate(weights):
        expected = weight / sum(weights)
        # Five standard deviations; the draws are the same on every run.
        assert abs(counts[token] / times - expected) < 5 * (expected * (1 - expected) / times) ** 0.5


@pytest.mark.parametrize(
    ("top_p", "nucleus"),
    [(1e-300, {1}), (0.1, {1}), (0.49, {1}), (0.51, {1, 3}), (0.79, {1, 3}), (0.9, {1, 2, 3}), (1.0, {0, 1, 2, 3})],
)
def test_the_nucleus_is_the_smallest_set_that_reaches_top_p(top_p: float, nucleus: set[int]) -> None:
    assert set(drawn(sampling(top_p=top_p))) == nucleus


def test_inside_the_nucleus_the_proportions_stay() -> None:
    counts = drawn(sampling(top_p=0.7), 4000)
    assert abs(counts[1] / 4000 - 0.5 / 0.8) < 0.04


def test_a_masked_token_is_never_drawn() -> None:
    logits = LOGITS.clone()
    logits[LARGEST] = float("-inf")
    assert set(drawn(sampling(), logits=logits)) == {0, 2, 3}


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-308, 5e-324])
def test_a_tiny_temperature_is_greedy(temperature: float) -> None:
    """A client may ask for any temperature from 0 to 2: none of them may end a rank."""
    logits = torch.tensor([8.0, 20.0, -3.0, 19.0])
    assert drawn(sampling(temperature=temperature), 20, logits) == {1: 20}


@given(logits=logits_lists, temperature=strategies.floats(0, 2), top_p=strategies.floats(0, 1, exclude_min=True))
def test_every_request_gets_some_token(logits: list[float], temperature: float, top_p: float) -> None:
    token = draw(torch.tensor(logits), sampling(temperature, top_p), sample=0, position=0)
    assert 0 <= token < len(logits)


@given(logits=logits_lists)
def test_the_least_nucleus_is_greedy(logits: list[float]) -> None:
    row = torch.tensor(logits)
    assert row[draw(row, sampling(top_p=1e-9), sample=0, position=0)] == row.max()
