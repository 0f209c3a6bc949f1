"""Processes that are killed: SGLang ends, and nothing is left of the arena, which has no name and no other holder."""

from __future__ import annotations

from sglang_live import SGLang, is_alive, part, segments, text, until
from sglang_work import CHINA

LIMIT_S = 120.0


def test_a_killed_process_leaves_nothing(server: SGLang, tp: int) -> None:
    server.answers([part(CHINA), text("What is this?")])
    victim = server.tokenizer if tp == 1 else server.ranks()[-1]
    victim.kill()
    until(lambda: not any(map(is_alive, server.processes)), LIMIT_S, "every process has ended")
    assert segments() <= server.segments
