"""A run is judged only on a quiet machine: how much of a core other processes use."""

from __future__ import annotations

import pytest

from mmplane.bench.run import environment


def test_what_others_use_is_a_share_of_the_time_that_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    busy_s, now_s = iter([100.0, 100.5]), iter([10.0, 12.0])
    monkeypatch.setattr(environment, "_busy_s", lambda: next(busy_s))
    monkeypatch.setattr(environment.time, "monotonic", lambda: next(now_s))
    monkeypatch.setattr(environment.time, "sleep", lambda _: None)
    assert environment.others_cores() == 0.25
