"""Training in miniature: the losses fall, a checkpoint goes on where it was, the weights fit the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed
from training import train
from training.evaluate import CATEGORIES, Served, cases
from training.pictures import is_held_out
from training.samples import make_batch
from training.train import SIMPLE, SMOKE, STAGES, Progress, Stage, Training

from mmplane.models.tiny import build_tiny, tiny_tokenizer

SHORT = Stage("short", 2, replace(SIMPLE, grids=((112, 56),), pictures=4), (1e-3, 1e-3), average=0.5)


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
    stage = Stage("stage", 1000, SIMPLE, (1e-3, 1e-5), warm_up=0.1)
    assert stage.rate_at(0.001) < 1e-4
    assert replace(stage, warm_up=0.0).rate_at(0.0) == pytest.approx(1e-3)
    assert stage.rate_at(0.999) == pytest.approx(1e-5, rel=0.1)


def test_a_stage_keeps_what_was_read_before_in_about_half_of_its_batches() -> None:
    stage = STAGES[-1]
    kept = sum(stage.mix_at(0, step) is stage.kept for step in range(400))
    assert 150 < kept < 250
    assert all(STAGES[0].mix_at(0, step) is STAGES[0].mix for step in range(10))


def test_a_run_by_the_clock_ends(tmp_path: Path) -> None:
    torch.manual_seed(0)
    training = Training(seed=0)
    before = {name: value.clone() for name, value in training.reader.state_dict().items()}
    training.run(0, replace(SHORT, steps=10**9, minutes=0.02), work=tmp_path)
    assert not torch.equal(before["symbols.weight"], training.reader.symbols.weight)


def test_a_run_that_is_cut_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_KEEP_EVERY_S", -1.0)
    torch.manual_seed(0)
    training = Training(seed=0)
    training.run(0, replace(SHORT, steps=3), work=tmp_path)
    last = load_file(tmp_path / "short.safetensors")
    training.export(tmp_path / "end.safetensors")
    for name, value in load_file(tmp_path / "end.safetensors").items():  # a checkpoint exports the average, too
        assert torch.equal(value, last[name])
    other = Training(seed=0)
    cut = other.load(tmp_path / "short.pt")
    assert cut.steps == 3
    taken = []
    monkeypatch.setattr(other, "step", lambda batch, rate: taken.append(batch) or torch.zeros(3))
    other.run(0, replace(SHORT, steps=5), before=cut)
    assert len(taken) == 2
    assert torch.equal(taken[0].labels, next(train.batches(0, SHORT, first=3)).labels)


def test_the_clock_goes_on_with_the_stage() -> None:
    training = Training(seed=0)
    assert training.run(0, replace(SHORT, steps=10**9, minutes=60.0), before=Progress(9, 1.0)) == []


def test_the_first_steps_of_a_stage_can_leave_the_model_alone() -> None:
    torch.manual_seed(0)
    training = Training(seed=0)
    before = [value.clone() for value in training.reader.model.parameters()]
    head = training.reader.symbols.weight.clone()
    training.run(0, replace(SHORT, head_first=1.0))
    assert all(map(torch.equal, before, training.reader.model.parameters()))
    assert not torch.equal(head, training.reader.symbols.weight)


def test_exported_weights_begin_another_run(tmp_path: Path) -> None:
    first, second = Training(seed=0), Training(seed=1)
    first.export(tmp_path / "weights.safetensors")
    second.begin_with(tmp_path / "weights.safetensors")
    for one, other in zip(first.reader.model.parameters(), second.reader.model.parameters(), strict=True):
        torch.testing.assert_close(one.bfloat16().float(), other.detach())


def _of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    training = Training(seed=0)
    training.run(0, SHORT)
    torch.save(training.reader.state_dict(), Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_train_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    torch.multiprocessing.spawn(_of_two, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    alone = Training(seed=0)
    alone.run(0, SHORT)
    assert not torch.equal(alone.reader.symbols.weight, first["symbols.weight"])


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
    assert all(is_held_out(number) for number in numbers if len(number) > 2)
