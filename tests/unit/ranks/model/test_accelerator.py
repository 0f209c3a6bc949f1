"""`--device cpu` holds on a machine with a GPU, where transformers would take that."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import DistributedConfig
from transformers.distributed.utils import initialize_distributed_mesh

from mmplane.ranks.model.accelerator import accelerator_is


def test_a_model_is_sharded_over_the_device_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._C, "_get_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    try:
        with accelerator_is(torch.device("cpu")):
            device, meshes = initialize_distributed_mesh(DistributedConfig(tp_size=2, tp_plan="auto"))
        assert device == torch.device("cpu")
        assert meshes.get_mesh(("tp",)).device_type == "cpu"
    finally:
        dist.destroy_process_group()
    assert torch._C._get_accelerator().type == "cuda", "torch's own answer is back"
