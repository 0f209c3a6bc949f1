"""Training in miniature: the losses fall, a checkpoint goes on where it was, the weights fit the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training.evaluate import CATEGORIES, Served, cases
from training.pictures import is_held_out
from training.samples import make_batch
from training.train import SIMPLE, SMOKE, STAGES, Stage, Training

from mmplane.models.tiny import build_tiny, tiny_tokenizer


def test_the_losses_fall_and_the_checkpoint_holds_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    training = Training(seed=0)
    batch = make_batch(0, 0, replace(SIMPLE, grids=((112, 56),), pictures=8), tiny_tokenizer())
    first = training.step(batch, 1e-3)
    for _ in range(25):
        last = training.step(batch, 1e-3)
    assert last[0] < first[0] / 2
    assert last[1] < first[1]
    training.save(tmp_path / "checkpoint.pt")
    training.export(tmp_path / "weights.safetensors")
    other = Training(seed=1)
    other.load(tmp_path / "checkpoint.pt")
    assert torch.equal(other.step(batch, 1e-3), training.step(batch, 1e-3))
    build_tiny(tmp_path / "folder", weights=tmp_path / "weights.safetensors")


def test_the_rate_warms_up_and_falls() -> None:
    stage = Stage("stage", 1000, SIMPLE, (1e-3, 1e-5))
    assert stage.rate_at(0, warm_up=True) < 1e-4
    assert stage.rate_at(0, warm_up=False) == pytest.approx(1e-3)
    assert stage.rate_at(999, warm_up=True) == pytest.approx(1e-5, rel=0.1)


def test_stages_have_their_own_names() -> None:
    assert len({stage.name for stage in STAGES + SMOKE}) == len(STAGES + SMOKE)


@pytest.mark.parametrize("name", CATEGORIES)
def test_cases_are_held_out_and_can_be_asked(name: str, tmp_path: Path) -> None:
    build_tiny(tmp_path)
    served = Served(tmp_path)
    first, again = (list(cases(name, 2)) for _ in range(2))
    assert [case.answer for case in first] == [case.answer for case in again]
    assert served.is_exact(first[0]) in (True, False)
    numbers = [part for case in first for part in case.answer.split(", ") if part.isdigit()]
    assert all(is_held_out(number) for number in numbers)
