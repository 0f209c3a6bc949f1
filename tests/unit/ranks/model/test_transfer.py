"""Features that a GPU copies by itself stay where they are until it has them. `fake_cuda` stands for the GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMultimodalLM

from fake_cuda import INDEX, NOT_REGISTERED, Cuda
from mmplane.core.plan import Held, Sampling, Submit
from mmplane.delivery.meter import Meter
from mmplane.models.tiny import build_tiny
from mmplane.ranks.model.cache import Memory
from mmplane.ranks.model.runner import Runner
from mmplane.ranks.model.transfer import PORTABLE, READ_ONLY, Transfer
from mmplane.ranks.plan.blocks import BLOCK_TOKENS
from mmplane.ranks.plan.loop import LoopClock
from mutation import Mutant, check_it_is_killed


class ToGpu(Transfer):
    """Its copies wait until a test lets them run."""

    def __init__(self) -> None:
        self.cuda = Cuda()
        super().__init__(torch.device("cuda", INDEX), cuda=self.cuda)

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.cuda.copy(tensor)


def test_another_item_gets_the_memory_once_all_has_been_copied() -> None:
    gpu = ToGpu()
    pixels, grid = torch.arange(8.0), torch.tensor([2, 4])
    taken = gpu.take({"pixels": pixels, "grid": grid})
    for turn, _ in enumerate(gpu.arrived(), 1):
        gpu.cuda.run(turn)
    pixels.zero_()
    grid.zero_()
    gpu.cuda.run()
    assert (taken["pixels"].tolist(), taken["grid"].tolist()) == ([*range(8)], [2, 4])


def test_on_a_cpu_nothing_is_copied_or_waited_for() -> None:
    nothing: Any = None
    transfer, pixels = Transfer(torch.device("cpu"), cuda=nothing), torch.arange(8.0)
    transfer.register([memoryview(b"x")])
    assert transfer.take({"pixels": pixels})["pixels"].data_ptr() == pixels.data_ptr()
    assert list(transfer.arrived()) == []


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("tiny")
    build_tiny(folder)
    return AutoModelForMultimodalLM.from_pretrained(folder, dtype=torch.float32).eval()


def test_a_request_is_held_when_its_copies_are_done(model: Any) -> None:
    """From then on the leases on its features may end."""
    gpu, inbox = ToGpu(), None
    parts: dict[str, Any] = {"rank": 0, "device": torch.device("cpu"), "clock": LoopClock(0, Meter()), "transfer": gpu}
    runner = Runner(model, inbox, Memory(1, BLOCK_TOKENS), **parts)  # type: ignore[arg-type]
    gpu.cuda.copy(torch.zeros(1))
    prompt = np.array([5, 6, 7], np.int32).tobytes()
    turns = runner.prepare(Submit(1, prompt, None, 3, (), (), Sampling(4, 0.0, 1.0, 0, 1)), ())
    assert [next(turns), next(turns)] == [None, None]
    gpu.cuda.run()
    assert isinstance(next(turns), Held)


def test_regions_are_registered_and_stay_so() -> None:
    gpu, regions = ToGpu(), [memoryview(bytes(4096)), memoryview(bytes(8192))]
    gpu.register(regions)
    assert sorted(gpu.cuda.registered.values()) == [(4096, PORTABLE | READ_ONLY), (8192, PORTABLE | READ_ONLY)]


def test_a_driver_that_registers_nothing_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    gpu = ToGpu()
    gpu.cuda.error = NOT_REGISTERED
    with caplog.at_level("WARNING", logger="mmplane"):
        gpu.register([memoryview(bytes(4096))] * 2)
    assert [record.getMessage() for record in caplog.records] == [
        f"the GPU's driver does not register features ({NOT_REGISTERED}): it copies each one twice"
    ]


COPIED = test_another_item_gets_the_memory_once_all_has_been_copied


@pytest.mark.parametrize(
    "mutant",
    [
        Mutant("no event", Transfer.arrived, "not event.query()", "False", COPIED),
        Mutant("an event before the copies", Transfer.arrived, "event.record()", "pass", COPIED),
        Mutant(
            "held at once",
            Runner.prepare,
            "yield from self._transfer.arrived()",
            "yield from ()",
            test_a_request_is_held_when_its_copies_are_done,
        ),
    ],
    ids=str,
)
def test_mutants(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
