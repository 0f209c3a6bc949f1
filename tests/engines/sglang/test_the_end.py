"""Processes that are killed: SGLang ends, and nothing is left of the arena, which has no name and no other holder."""

from __future__ import annotations

from sglang_burst import killed_in_a_burst
from sglang_live import SGLang, is_alive, part, text
from sglang_work import CHINA

from polling import until

LIMIT_S = 120.0


def test_a_killed_process_leaves_nothing(server: SGLang, tp: int) -> None:
    """With two ranks: the last one, in a burst of 200 pictures."""
    if tp == 2:
        assert killed_in_a_burst(server, server.ranks()[-1]) == 0
        return
    server.answers([part(CHINA), text("What is this?")])
    server.tokenizer.kill()
    until(lambda: not any(map(is_alive, server.processes)), LIMIT_S, "every process has ended")
    assert server.segments() == []
