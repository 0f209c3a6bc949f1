"""What SGLang does without the plugin."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from sglang_burst import killed_in_a_burst
from sglang_live import SGLang, until
from sglang_work import FAULTY, answers, shared_by_white_images

STOP_LIMIT_S = 60.0


@dataclass(frozen=True)
class Alone:
    """Answers to the fifty requests, and tokens that white images share.

    With one rank, whether a faulty request ended the server; with two, how many segments a rank left that was killed.
    """

    answers: list[tuple[str, list[str]]]
    shared: list[int]
    ended: bool = False
    left: int = 0


def observe(server: SGLang, tp: int) -> Alone:
    """Ask it everything, and then what ends it."""
    try:
        given, shared = answers(server), shared_by_white_images(server)
        if tp == 1:
            return Alone(given, shared, ended=_ends(server))
        return Alone(given, shared, left=killed_in_a_burst(server, server.ranks()[-1]))
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
