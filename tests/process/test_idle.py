"""An idle server sleeps: its processes wake up for beats and for nothing else."""

from __future__ import annotations

from time import monotonic, sleep

from benchmarks.idle import costs
from live import Live

WATCHED_S = 4.0
WAKES_PER_S = {"supervisor": 5, "nursery": 1, "frontend": 5, "parser": 3, "worker": 3, "rank": 60}
"""About twice what is there. A rank has nine threads of gloo's, which poll, now twice a second."""


def test_who_wakes_up(server: Live) -> None:
    before, began_s = costs(server.supervisor.pid), monotonic()
    sleep(WATCHED_S)  # what is measured is what happens meanwhile
    after, took_s = costs(server.supervisor.pid), monotonic() - began_s
    assert set(after) == set(before)
    for title, cost in after.items():
        role = title.removeprefix("mmplane: ").split()[0]
        if role in WAKES_PER_S:  # the command that was started goes by its own name
            assert cost.since(before[title]).wakes <= WAKES_PER_S[role] * took_s + 5, title
