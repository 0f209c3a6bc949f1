"""What every delivery must do, as checks against a live server: for the conformance suite, and for its mutants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
from blake3 import blake3
from live import Live
from pictures import jpeg, noise, part, text
from reference import Reference

from polling import until

TOKENS_MAX = 4
MARGIN_MIN = 1e-3
"""Below this two orders of summation may rightly differ in which token is best."""
LIMIT_S = 60.0
"""The watchdog on each answer: it tells progress from a hang, and nothing else."""

WIDE, TALL, PHOTO, SQUARE = noise(2001, 112, 56), noise(2002, 56, 112), jpeg(2003, 112, 84), noise(2004, 56, 56)
QUESTIONS: dict[str, tuple[Any, list[bytes]]] = {
    "wide": ([part(WIDE), text("What is this?")], [WIDE]),
    "tall": ([part(TALL), text("What is this?")], [TALL]),
    "photo": ([text("Look:"), part(PHOTO)], [PHOTO]),
    "several": ([part(SQUARE), text("and"), part(WIDE), text("and"), part(PHOTO)], [SQUARE, WIDE, PHOTO]),
    "turned": ([part(PHOTO), text("and"), part(WIDE), text("and"), part(SQUARE)], [PHOTO, WIDE, SQUARE]),
    "text": ("Hello, who are you?", []),
}
"""Small pictures of different shapes: what matters is that they cannot be mistaken for each other."""


@dataclass(frozen=True)
class Right:
    """The right answer to a question, by plain transformers: greedy tokens, and the digest of each item's features."""

    tokens: list[int]
    digests: list[str]


def right_answers(reference: Reference) -> dict[str, Right]:
    """By question."""
    answers = {}
    for name, (content, media) in QUESTIONS.items():
        answer = reference.expected(content, media, TOKENS_MAX)
        assert answer.margin > MARGIN_MIN, f"choose another question than {name!r}: margin {answer.margin}"
        answers[name] = Right(answer.tokens, [digest_of(reference, each) for each in media])
    assert len({str(answer.tokens) for answer in answers.values()}) == len(answers), "answers must differ"
    return answers


def digest_of(reference: Reference, media: bytes) -> str:
    """Of the features that the processor itself makes."""
    return blake3(reference.features(media)["pixel_values"].contiguous().numpy().tobytes()).hexdigest()


def switch(live: Live, delivery: str, *, share: float = 1.0, cache: str = "auto", ingress: str = "auto") -> None:
    """PUT /admin/delivery."""
    wanted = {"name": delivery, "share": share, "cache": cache, "ingress": ingress}
    answer = httpx.put(live.url + "/admin/delivery", json=wanted)
    assert answer.status_code == 200, answer.text


def post(live: Live, content: Any, *, limit_s: float = LIMIT_S, fault: Any = None, **fields: Any) -> httpx.Response:
    """One request with a trace; raises httpx.TimeoutException when there is no answer in time."""
    body = {"model": "tiny", "max_tokens": TOKENS_MAX, "temperature": 0}
    body |= {"messages": [{"role": "user", "content": content}]}
    body |= {"mmplane": {"trace": True} | ({"fault": fault} if fault else {})}
    return live.http.post("/v1/chat/completions", json=body | fields, timeout=limit_s)


def ask(live: Live, right: dict[str, Right], name: str, **fields: Any) -> dict[str, Any]:
    """The trace of a question's answer, which is right on every rank."""
    answer = post(live, QUESTIONS[name][0], **fields)
    assert answer.status_code == 200, (name, answer.text)
    trace: dict[str, Any] = answer.json()["mmplane"]["trace"]
    assert trace["token_ids"] == [right[name].tokens] * fields.get("n", 1), name
    check_digests(trace, right[name].digests)
    return trace


def ask_picture(live: Live, digest: str, media: bytes, **fields: Any) -> dict[str, Any]:
    """The trace of one picture's item, whose features are right on every rank."""
    answer = post(live, [part(media)], max_tokens=1, **fields)
    assert answer.status_code == 200, answer.text
    trace = answer.json()["mmplane"]["trace"]
    check_digests(trace, [digest])
    item: dict[str, Any] = trace["items"][0]
    return item


def check_digests(trace: dict[str, Any], digests: Sequence[str]) -> None:
    """Every rank's features are the processor's own."""
    assert [set(item["digests"].values()) for item in trace["items"]] == [{digest} for digest in digests]


def together(*jobs: Callable[[], Any]) -> list[Any]:
    """What each gives, all at once; the first that raises, after all have ended."""
    with ThreadPoolExecutor(len(jobs)) as threads:
        return [future.result() for future in [threads.submit(job) for job in jobs]]


def settle(live: Live, tp: int, *, limit_s: float = LIMIT_S) -> list[dict[str, Any]]:
    """Nothing is left of any request, on any rank, and all ranks have one log; what each rank reports."""
    # One more plan, so that each rank has reported itself since it dropped what it had.
    assert post(live, "Hi", limit_s=limit_s, max_tokens=1).status_code == 200
    reports: list[dict[str, Any]] = until(lambda: _settled(live, tp), limit_s, "nothing is left of any request")
    return reports


def _settled(live: Live, tp: int) -> list[dict[str, Any]] | None:
    statistics = live.statistics()
    ranks = statistics["ranks"]
    progress = ranks["progress"]
    quiet = (
        statistics["requests"]["in_flight"] == 0
        and statistics["arena"]["leases"] == 0
        and statistics["arena"]["total"]["quarantined_bytes"] == 0
        and statistics["budget"]["reserved_bytes"] == 0
        and ranks["in_flight"] == 0
        and progress["running"] == progress["waiting"] == progress["kv_tokens"] == 0
    )
    reports: list[dict[str, Any]] = progress["ranks"]
    same = all(len({report[name] for report in reports}) == 1 for name in ("number", "digest", "cached"))
    empty = all(report["parcels"] == 0 for report in reports)
    return reports if quiet and same and empty and len(reports) == tp else None


def check_mixture(live: Live, right: dict[str, Right]) -> None:
    """All questions at once, for one sample and for three."""
    together(*(partial(ask, live, right, name, n=samples) for samples in (1, 3) for name in QUESTIONS))
