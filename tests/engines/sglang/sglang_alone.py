"""What SGLang does without the plugin."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from sglang_live import SGLang
from sglang_work import FAULTY, answers, shared_by_white_images

from polling import until

STOP_LIMIT_S = 60.0


@dataclass(frozen=True)
class Alone:
    """Answers to the fifty requests; tokens that white images share; and whether a faulty request ended the server."""

    answers: list[tuple[str, list[str]]]
    shared: list[int]
    ended: bool


def observe(server: SGLang) -> Alone:
    """Ask it everything; the last request ends it, in one way or the other."""
    try:
        given, shared = answers(server), shared_by_white_images(server)
        return Alone(given, shared, _ends(server))
    finally:
        server.kill()


def _ends(server: SGLang) -> bool:
    try:
        answered = server.chat(FAULTY).is_success
    except httpx.HTTPError:
        answered = False
    if not answered:
        until(server.has_ended, STOP_LIMIT_S, "the server has ended")
    return not answered
