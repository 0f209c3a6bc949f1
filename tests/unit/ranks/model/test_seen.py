"""Which tokens a text has: the same counts as by counting all of them anew, and no more room than kinds of tokens."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given, strategies

from mmplane.ranks.model.seen import Seen

texts = strategies.lists(strategies.integers(0, 200_000), max_size=200)


def counts(seen: Seen) -> dict[int, float]:
    tokens: list[int] = seen.tokens.tolist()
    assert len(set(tokens)) == len(tokens)
    return dict(zip(tokens, seen.counts.tolist(), strict=True))


@given(prompt=texts, answer=texts)
def test_it_counts_as_the_whole_text_does(prompt: list[int], answer: list[int]) -> None:
    seen = Seen(torch.tensor(prompt, dtype=torch.int64))
    for token in answer:
        seen.add(token)
    assert counts(seen) == dict.fromkeys(prompt, 0) | dict(Counter(answer))


def test_a_long_answer_of_few_tokens_stays_small() -> None:
    seen = Seen()
    for at in range(5000):
        seen.add(at % 3)
    assert counts(seen) == {0: 1667, 1: 1667, 2: 1666}


def test_a_fork_goes_its_own_way() -> None:
    seen = Seen()
    seen.add(5)
    other = seen.fork()
    seen.add(6)
    other.add(5)
    other.add(7)
    assert (counts(seen), counts(other)) == ({5: 1, 6: 1}, {5: 2, 7: 1})
