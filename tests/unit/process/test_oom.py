"""Who the kernel kills first: scores as a child of the nursery really has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_nursery import Nursery, nursery

from mmplane.core.control import Spawned
from mmplane.process import oom
from mmplane.process.nursery import MAINS

__all__ = ["nursery"]


def score(pid: int | str) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@pytest.mark.parametrize("role", oom.SCORES)
def test_a_child_comes_before_its_supervisor(nursery: Nursery, role: str) -> None:
    spawned, (pidfd,), out = nursery.ask("stay", role=role)
    assert isinstance(spawned, Spawned)
    os.read(out, 4096)
    ours = score("self")
    assert score(spawned.pid) == min(ours + oom.SCORES[role], oom.SCORE_MAX)
    assert score(nursery.program.process.pid) == ours
    os.close(pidfd)
    os.close(out)


def test_every_role_has_a_score_and_what_costs_one_item_goes_first() -> None:
    assert set(oom.SCORES) == set(MAINS)
    first = max(oom.SCORES, key=lambda role: oom.SCORES[role])
    assert first == "worker"
    assert all(0 < score < oom.SCORE_MAX for score in oom.SCORES.values())


def test_a_score_never_passes_the_kernels_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oom, "SCORE", tmp_path / "oom_score_adj")
    oom.SCORE.write_text("900\n")
    oom.volunteer("worker")
    assert oom.SCORE.read_text() == "1000"


def test_a_system_without_scores_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oom, "SCORE", tmp_path / "none" / "oom_score_adj")
    oom.volunteer("worker")
