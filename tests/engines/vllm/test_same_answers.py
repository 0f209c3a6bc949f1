"""The plugin changes no answer: the same tokens and log probabilities, to the last bit, one request after another."""

from __future__ import annotations

from collections import Counter

from vllm_live import VLLM
from vllm_work import Answer, answers, conversations


def test_same_answers(plain: list[Answer], server: VLLM, tp: int) -> None:
    before = server.figures()  # clients of other tests may have left before their features were sent
    given = answers(server)
    assert len(given) >= 60
    assert len({str(tokens) for _, tokens in given}) > 40  # what is compared differs from picture to picture
    different = [(at, kind) for at, (kind, tokens) in enumerate(given) if (kind, tokens) != plain[at]]
    assert different == []
    server.settle()
    figures, kinds = server.figures(), Counter(kind for kind, _, _ in conversations())
    hits = server.metrics("vllm:mm_cache_")["hits_total"]
    if tp == 1:
        assert figures["features_passed_over"] > 0  # the arena is full at times
        assert figures["arena_evictions"] > 0
    else:
        assert figures["features_passed_over"] == figures["arena_evictions"] == 0
        carried, seen = (figures[name] - before[name] for name in ("features_carried", "features_seen"))
        assert carried == seen + 2 * kinds["three samples"]
        assert hits >= kinds["repeat"] + kinds["prefix"]
