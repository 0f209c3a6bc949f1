"""Clients that go away, requests that are preempted: nothing stays behind, and the cache goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from PIL import Image
from vllm_live import ROOT, VENV, VLLM, part, text
from vllm_work import CHINA, FLOWER, answer, leave, leave_waiting, streamed

from polling import until

LIMIT_S = 60.0
WAITERS = 20
ROUNDING = 0.05
"""Of log probabilities: tokens that were decoded one by one are computed again all at once."""


def pictures(first: int, count: int) -> Iterator[Image.Image]:
    """Pieces that nobody else sends."""
    for at in range(first, first + count):
        yield FLOWER.crop((at, at, at + 280, at + 280))


def test_clients_leave_after_scheduling(server: VLLM) -> None:
    for picture in pictures(0, 6):
        leave(server, picture)
    server.settle()


def test_clients_leave_while_their_requests_wait(server: VLLM) -> None:
    until(lambda: hits_after_waiters_left(server) >= 6, LIMIT_S, "three pictures are found again, twice each")
    server.settle()


def test_preempted_requests_are_encoded_again(server: VLLM) -> None:
    """Their encoder outputs are gone, and their features are still there."""
    # One token is allowed: a choice between close ones could fall differently, and the rest of the answer with it.
    fields: dict[str, Any] = {"max_tokens": 300, "ignore_eos": True, "allowed_token_ids": [100]}
    china, undisturbed = (streamed(server, [part(one), text("Say a lot.")], **fields) for one in (CHINA, FLOWER))
    assert distance(china, undisturbed) > ROUNDING
    before = server.metrics("vllm:")["num_preemptions_total"]

    def has_been_preempted() -> bool:
        """Where the API server gets little time, the engine has all 300 tokens before the first is sent."""
        disturbed = streamed(server, [part(FLOWER), text("Say a lot.")], first=partial(preempt, server), **fields)
        assert distance(disturbed, undisturbed) < ROUNDING
        return server.metrics("vllm:")["num_preemptions_total"] > before

    until(has_been_preempted, LIMIT_S, "a request was preempted")
    server.settle()


def test_the_report_is_still_true() -> None:
    """Its reproduction needs no server."""
    report = (ROOT / "docs" / "upstream.md").read_text()
    command = [str(VENV / "bin" / "python"), str(ROOT / "tools" / "upstream" / "vllm_shm_cache.py")]
    environment = os.environ | {"VLLM_LOGGING_LEVEL": "ERROR"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.splitlines()[-1] in report, "the report quotes what the script prints"


def distance(one: list[tuple[str, float]], other: list[tuple[str, float]]) -> float:
    """The largest difference of log probabilities."""
    return max(abs(a - b) for (_, a), (_, b) in zip(one, other, strict=True))


def preempt(server: VLLM) -> None:
    """Preempt all running requests. The engine pauses meanwhile, so that they cannot end before."""
    server.http.post("/pause", params={"mode": "keep"}).raise_for_status()
    try:
        server.http.post("/reset_encoder_cache").raise_for_status()
        server.http.post("/reset_prefix_cache", params={"reset_running_requests": "true"}).raise_for_status()
    finally:
        server.http.post("/resume").raise_for_status()


def hits_after_waiters_left(server: VLLM) -> float:
    """How many of six repeats are hits, after twenty clients have gone whose requests waited for the engine."""
    server.http.post("/pause", params={"mode": "keep"}).raise_for_status()
    try:
        with ThreadPoolExecutor(WAITERS) as threads:
            left = [*threads.map(lambda picture: leave_waiting(server, picture), pictures(100, WAITERS))]
        assert None not in left
    finally:
        server.http.post("/resume").raise_for_status()
    before = hits(server)
    for _ in range(3):
        for picture in pictures(200, 3):
            answer(server, [part(picture), text("Again?")])
    return hits(server) - before


def hits(server: VLLM) -> float:
    """Of vLLM's cache of processed items, as vLLM counts them."""
    return server.metrics("vllm:mm_cache_")["hits_total"]
