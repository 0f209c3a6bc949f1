"""Rank 0 draws as a request's sampling says, whatever its answer has so far; it remembers nothing of what has ended."""

from __future__ import annotations

import dataclasses
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from llguidance import LLMatcher, LLParserLimits

from mmplane.core.errors import RequestError
from mmplane.core.plan import Sampling, Submit
from mmplane.models.tiny import build_tiny
from mmplane.ranks.model import grammar
from mmplane.ranks.model.drawing import Drawing
from mmplane.ranks.model.grammar import LIMITS, Grammars
from mmplane.ranks.model.sampling import draw
from mmplane.ranks.plan.port import Drawn
from mmplane.ranks.plan.step import Segment
from mutation import Mutant, check_it_is_killed

END = 258
VOCABULARY = 320
PROMPT = torch.tensor([5, 6, 7])


@pytest.fixture(scope="module")
def grammars(tmp_path_factory: pytest.TempPathFactory) -> Grammars:
    folder = Path(tmp_path_factory.mktemp("tiny"))
    build_tiny(folder)
    return Grammars(str(folder), VOCABULARY, frozenset({END}))


def submit(**fields: Any) -> Submit:
    sampling = msgspec.structs.replace(Sampling(20, 0.0, 1.0, 1, 1), **fields)
    return Submit(1, b"", None, len(PROMPT), (), (), sampling)


def prepare(drawing: Drawing, request: Submit) -> None:
    for future in drawing.prepare(request, PROMPT):
        assert isinstance(future, Future)
        future.exception(30)


def segment(sample: int, drawn: int, *, samples: int = 1) -> Segment:
    """The one whose logits give the answer's token number `drawn`."""
    if drawn == 0:
        return Segment((1, 0), 0, len(PROMPT), None, samples)
    return Segment((1, sample), len(PROMPT) + drawn - 1, 1, 9, 1)


def answer(drawing: Drawing, request: Submit, logits: torch.Tensor, count: int) -> list[int]:
    """Tokens of one answer, when the model's logits are always these."""
    tokens: list[int] = []
    for at in range(count):
        (drawn,) = draw(logits[None], [drawing.wanted(request, segment(0, at))])
        drawing.drew([(1, 0)], [drawn])
        tokens.append(drawn.token)
        if drawn.token == END:
            break
    return tokens


def logits(*likely: int) -> torch.Tensor:
    """The first of these is the likeliest, by one each."""
    row = torch.zeros(VOCABULARY)
    for rank, token in enumerate(likely):
        row[token] = 10.0 - rank
    return row


def ids_of(allowed: torch.Tensor | None) -> list[int]:
    assert allowed is not None
    ids: list[int] = allowed.nonzero().flatten().tolist()
    return ids


def byte(character: str) -> int:
    """The token of a printable character of the built-in model."""
    return ord(character) - ord("!")


def test_an_answer_follows_its_grammar_and_then_ends(grammars: Grammars) -> None:
    drawing = Drawing(grammars, frozenset({END}))
    request = submit(grammar=LLMatcher.grammar_from_regex("[ab]{3}c"))
    prepare(drawing, request)
    found = answer(drawing, request, logits(byte("z"), byte("c"), byte("b")), 10)
    assert found == [byte("b"), byte("b"), byte("b"), byte("c"), END]


def test_samples_of_a_request_are_at_different_places(grammars: Grammars) -> None:
    drawing = Drawing(grammars, frozenset({END}))
    request = submit(grammar=LLMatcher.grammar_from_regex("a1|b2"), samples=2)
    prepare(drawing, request)
    assert len(drawing.wanted(request, segment(0, 0, samples=2)).samples) == 2
    drawing.drew([(1, 0), (1, 1)], [Drawn(byte("a")), Drawn(byte("b"))])
    second = [drawing.wanted(request, segment(sample, 1)).allowed for sample in (0, 1)]
    assert [ids_of(allowed) for allowed in second] == [[byte("1")], [byte("2")]]


def test_a_grammar_that_this_tokenizer_cannot_follow_is_the_requests_error(grammars: Grammars) -> None:
    drawing = Drawing(grammars, frozenset({END}))
    making = drawing.prepare(submit(grammar=LLMatcher.grammar_from_json_schema({"type": "strin"})), PROMPT)
    next(making).exception(30)
    with pytest.raises(RequestError) as refused:
        next(making)
    assert refused.value.status == 400
    assert drawing.statistics() == {"answers": 0}


def test_a_grammar_that_takes_too_much_work_for_a_token_is_the_requests_error(
    grammars: Grammars, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which has begun with an a. Another request with the same grammar goes on."""
    limits = LLParserLimits(verbose_errors=False, step_lexer_fuel=LIMITS.step_lexer_fuel // 50)  # few tokens, less work
    monkeypatch.setattr(grammar, "LIMITS", limits)
    drawing = Drawing(grammars, frozenset({END}))
    hostile = submit(grammar=LLMatcher.grammar_from_regex("b[a-z]{9}|a(.*[ab].{18}c)*x"))
    requests, both = [hostile, msgspec.structs.replace(hostile, request_id=2)], [(1, 0), (2, 0)]
    for request in requests:
        prepare(drawing, request)
    drawing.drew(both, [Drawn(byte("a")), Drawn(byte("b"))])
    next_one = segment(0, 1)
    wanted = [
        drawing.wanted(request, dataclasses.replace(next_one, sequence=sequence))
        for request, sequence in zip(requests, both, strict=True)
    ]
    first, second = drawing.drew(both, draw(torch.stack([logits(byte("c"))] * 2), wanted))
    assert first.failure is not None
    assert first.failure.status == 400
    assert "too much work" in first.failure.message
    assert second == Drawn(byte("c"))


def test_without_the_limit_a_hostile_grammar_goes_on(request: pytest.FixtureRequest) -> None:
    killer = test_a_grammar_that_takes_too_much_work_for_a_token_is_the_requests_error
    check_it_is_killed(Mutant("a token's work", Grammars._make, "limits=LIMITS", "limits=None", killer), request)


def test_an_answer_that_must_not_end_yet_is_no_failure(grammars: Grammars) -> None:
    """Its grammar is complete, and `min_tokens` forbids the end: nothing that may be drawn follows the grammar."""
    drawing = Drawing(grammars, frozenset({END}))
    request = submit(grammar=LLMatcher.grammar_from_regex("ab"), tokens_min=4)
    prepare(drawing, request)
    found = answer(drawing, request, logits(byte("b"), byte("a")), 5)
    assert (found[:2], found[-1], len(found)) == ([byte("a"), byte("b")], END, 5)


def test_tokens_that_have_come_lose_weight() -> None:
    drawing = Drawing(end_tokens=frozenset({END}))
    request = submit(presence_penalty=0.6, frequency_penalty=0.6)
    prepare(drawing, request)
    assert answer(drawing, request, logits(1, 2, 3), 6) == [1, 2, 1, 1, 3, 2]
    once = submit(repetition_penalty=10.0)
    prepare(drawing, once)
    drawing.drop((1, 0))
    prepare(drawing, once)
    assert answer(drawing, once, logits(int(PROMPT[0]), 1, 2), 3) == [1, 2, int(PROMPT[0])], "the prompt counts"


def test_no_end_before_tokens_min() -> None:
    drawing = Drawing(end_tokens=frozenset({END}))
    request = submit(tokens_min=2, end_tokens=(4,))
    prepare(drawing, request)
    assert answer(drawing, request, logits(END, 4, 8), 5) == [8, 8, END]


def test_most_answers_are_not_remembered() -> None:
    drawing = Drawing(end_tokens=frozenset({END}))
    prepare(drawing, submit(tokens_min=2, bias=((1, 2.0),), top_k=3))
    drawing.drew([(1, 0)], [Drawn(3)])
    assert drawing.statistics() == {"answers": 0}


def test_what_has_ended_is_forgotten(grammars: Grammars) -> None:
    drawing = Drawing(grammars, frozenset({END}))
    request = submit(grammar=LLMatcher.grammar_from_regex("a+"), samples=2)
    prepare(drawing, request)
    drawing.drew([(1, 0), (1, 1)], [Drawn(byte("a"))] * 2)
    assert drawing.statistics() == {"answers": 2}
    drawing.drop((1, 0))
    drawing.drop((1, 1))
    drawing.drop((1, 1))
    assert drawing.statistics() == {"answers": 0}
