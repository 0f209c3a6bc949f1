"""Rank 0 draws as a request's sampling says, whatever its answer has so far; it remembers nothing of what has ended."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from llguidance import LLMatcher

from mmplane.core.errors import RequestError
from mmplane.core.plan import Sampling, Submit
from mmplane.models.tiny import build_tiny
from mmplane.ranks.model.drawing import Drawing
from mmplane.ranks.model.grammar import Grammars
from mmplane.ranks.model.sampling import draw
from mmplane.ranks.plan.step import Segment

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
    for future in drawing.prepare(request):
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
        (drawn,) = draw(logits[None], [drawing.wanted(request, PROMPT, segment(0, at))])
        drawing.drew([(1, 0)], [drawn.token])
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
    assert len(drawing.wanted(request, PROMPT, segment(0, 0, samples=2)).samples) == 2
    drawing.drew([(1, 0), (1, 1)], [byte("a"), byte("b")])
    second = [drawing.wanted(request, PROMPT, segment(sample, 1)).allowed for sample in (0, 1)]
    assert [allowed.nonzero().flatten().tolist() for allowed in second] == [[byte("1")], [byte("2")]]


def test_a_grammar_that_this_tokenizer_cannot_follow_is_the_requests_error(grammars: Grammars) -> None:
    drawing = Drawing(grammars, frozenset({END}))
    making = drawing.prepare(submit(grammar=LLMatcher.grammar_from_json_schema({"type": "strin"})))
    next(making).exception(30)
    with pytest.raises(RequestError) as refused:
        next(making)
    assert refused.value.status == 400
    assert drawing.statistics() == {"answers": 0}


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
    drawing.drew([(1, 0)], [3])
    assert drawing.statistics() == {"answers": 0}


def test_what_has_ended_is_forgotten(grammars: Grammars) -> None:
    drawing = Drawing(grammars, frozenset({END}))
    request = submit(grammar=LLMatcher.grammar_from_regex("a+"), samples=2)
    prepare(drawing, request)
    drawing.drew([(1, 0), (1, 1)], [byte("a")] * 2)
    assert drawing.statistics() == {"answers": 2}
    drawing.drop((1, 0))
    drawing.drop((1, 1))
    drawing.drop((1, 1))
    assert drawing.statistics() == {"answers": 0}
