"""Memory that a GPU reads by itself: registered once, and leased until it has been read."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from fake_cuda import INDEX, Torch
from mmplane.arena.label import create_labelled, new_plane
from mmplane.core.records import Slot
from mmplane.embed.windows import Windows
from mmplane.engines.kit import device as device_module
from mmplane.engines.kit.device import PENDING_MAX, PORTABLE, Device, arrays_in

PAGE_BYTES = 4096
REGION_BYTES = 128 * PAGE_BYTES


class Rank:
    """A rank on a GPU with one region, whose slots of one page are written by somebody else."""

    def __init__(self) -> None:
        self.torch = Torch()
        self.cuda = self.torch.cuda
        self.device = Device(self.torch, INDEX)
        self.plane, self.ended = new_plane(), list[int]()
        self.region = create_labelled("test", REGION_BYTES, self.plane, 0)
        self.windows = Windows(self.plane, self.ended.extend, self.device.register)

    def map(self) -> None:
        self.windows.map(0, self.region, REGION_BYTES, "writable")

    def write(self, slot: int, byte: int) -> None:
        os.pwrite(self.region, bytes([byte]) * PAGE_BYTES, slot * PAGE_BYTES)

    def tensor(self, claim: int, slot: int = 0) -> torch.Tensor:
        where = Slot(0, claim, slot * PAGE_BYTES, PAGE_BYTES)
        window = self.windows.open(claim, where)
        return torch.frombuffer(window, dtype=torch.uint8, count=PAGE_BYTES, offset=slot * PAGE_BYTES)

    def close(self) -> None:
        os.close(self.region)


@pytest.fixture
def rank() -> Iterator[Rank]:
    made = Rank()
    yield made
    made.close()


def test_a_lease_lasts_until_the_copy_is_done(rank: Rank) -> None:
    rank.map()
    rank.write(0, 7)
    tensor = rank.tensor(1)
    copied = rank.cuda.copy(tensor)
    rank.device.keep([tensor])
    del tensor
    rank.device.drain()
    if rank.ended:
        rank.write(0, 9)  # the slot's next owner
    rank.cuda.run()
    assert set(copied.tolist()) == {7}
    rank.device.drain()
    assert rank.ended == [1]


def test_the_next_call_lets_go_of_what_has_been_copied(rank: Rank) -> None:
    rank.map()
    for claim in (1, 2):
        tensor = rank.tensor(claim, claim)
        rank.cuda.copy(tensor)
        rank.device.keep([tensor])
        del tensor
        rank.cuda.run()
    assert rank.ended == [1]


def test_no_more_than_so_many_copies_are_waited_for(rank: Rank) -> None:
    rank.map()
    for claim in range(PENDING_MAX + 2):
        tensor = rank.tensor(claim, claim)
        rank.cuda.copy(tensor)
        rank.device.keep([tensor])
        del tensor
    assert rank.ended == [0, 1]


def test_other_memory_is_not_kept(rank: Rank) -> None:
    rank.map()
    kept = rank.tensor(1)
    assert rank.device.holds(kept)
    assert rank.device.holds(kept.numpy())
    others = [torch.zeros(4), np.zeros(4), None, "text", torch.zeros(4, device="meta")]
    assert not any(map(rank.device.holds, others))


def test_a_region_is_registered_once_on_the_ranks_gpu_until_nobody_uses_it(rank: Rank) -> None:
    rank.map()
    assert list(rank.cuda.registered.values()) == [(REGION_BYTES, PORTABLE)]
    tensor = rank.tensor(1)
    assert tensor.data_ptr() in rank.cuda.registered
    rank.windows.unmap()
    assert len(rank.cuda.registered) == 1, "an array is alive"
    del tensor
    assert not rank.cuda.registered


def test_what_is_registered_is_the_regions_memory(rank: Rank) -> None:
    """A private mapping would keep a page of its own, which is what the driver makes of it."""
    rank.map()
    first = rank.tensor(1)
    first[0] = 1
    rank.write(0, 9)
    assert first[0] == 9


@pytest.mark.parametrize("error", [2, RuntimeError("CUDA error: not supported")], ids=str)
def test_a_driver_that_refuses_leaves_the_rank_its_private_mapping(
    rank: Rank, error: int | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    rank.cuda.error = error
    with caplog.at_level(logging.WARNING, "mmplane"):
        rank.map()
        rank.map()
    assert [record.getMessage() for record in caplog.records] == [
        f"mmplane: the GPU's driver does not register 0 MiB of features ({error}): it copies each one once more"
    ]
    rank.write(0, 7)
    tensor = rank.tensor(1)
    tensor[0] = 1
    assert os.pread(rank.region, 1, 0) == b"\7"
    assert not rank.device.holds(tensor)
    rank.device.keep([tensor])
    del tensor
    assert rank.ended == [1]


def test_a_forked_process_leaves_the_registration_alone(rank: Rank, monkeypatch: pytest.MonkeyPatch) -> None:
    unregister = rank.device.register(PAGE_BYTES, PAGE_BYTES)
    assert unregister is not None
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    unregister()
    assert rank.cuda.registered


def test_on_a_cpu_there_is_nothing() -> None:
    assert device_module.begin(torch) == "private"
    assert device_module.current() is None


def test_the_kit_loads_without_torch() -> None:
    code = "import sys, mmplane.engines.kit.device; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_arrays_in_nested_values() -> None:
    assert list(arrays_in([1, (2, {"a": [3]}), []])) == [1, 2, 3]
