"""A rank's share of experts is right, whether a file holds them as the model does or transposed."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from architectures import ARCHITECTURES
from safetensors.torch import load_file, save_file
from tiny_checkpoint import build
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import AutoModelForMultimodalLM, DistributedConfig

from mmplane.ranks.model.experts import Share, experts_read_rightly
from mutation import mutated

pytestmark = pytest.mark.filterwarnings("ignore")
WIDTH = 48
"""Of an expert: no two dimensions of its weights are equal."""
Weights = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same checkpoint as transformers writes it, and as it is published."""
    row = ARCHITECTURES["qwen3_vl_moe"]
    text = row.config["text_config"] | {"moe_intermediate_size": WIDTH}
    own, published = (tmp_path_factory.mktemp(name) / "model" for name in ("own", "published"))
    build(replace(row, config=row.config | {"text_config": text}), own)
    shutil.copytree(own, published)
    weights = load_file(own / "model.safetensors")
    turned = {name: each.mT.contiguous() if ".experts." in name else each for name, each in weights.items()}
    save_file(turned, published / "model.safetensors", {"format": "pt"})
    return own, published


def experts(folder: Path, rank: int, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """What one of two ranks has of the first layer's."""
    for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2}.items():
        monkeypatch.setitem(os.environ, name, str(value))
    dist.init_process_group("fake", rank=rank, world_size=2, store=FakeStore())
    try:
        with experts_read_rightly("qwen3_vl_moe"):
            model = AutoModelForMultimodalLM.from_pretrained(
                folder, dtype=torch.float32, distributed_config=DistributedConfig(tp_size=2, tp_plan="auto")
            )
        layer = model.model.language_model.layers[0].mlp.experts
        return layer.gate_up_proj.to_local(), layer.down_proj.to_local()
    finally:
        dist.destroy_process_group()


def test_the_share_of_each_rank(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    weights = load_file(folders[0] / "model.safetensors")
    both, down = (weights[f"model.language_model.layers.0.mlp.experts.{name}_proj"] for name in ("gate_up", "down"))
    gate, up = both.chunk(2, dim=1)
    for folder in folders:
        for rank in range(2):
            own = slice(rank * WIDTH // 2, (rank + 1) * WIDTH // 2)
            share, share_down = experts(folder, rank, monkeypatch)
            assert torch.equal(share, torch.cat([gate[:, own], up[:, own]], dim=1))
            assert torch.equal(share_down, down[:, :, own])


@pytest.mark.parametrize(
    ("piece", "instead"),
    [(".transpose(1, 2)", ""), ("if _shape(source) == self._shape else", "if True else")],
    ids=["as transformers leaves it", "whatever the file holds"],
)
def test_mutants(piece: str, instead: str, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with mutated(Share.shard_tensor, piece, instead), pytest.raises((AssertionError, RuntimeError, AttributeError)):
        test_the_share_of_each_rank(folders, monkeypatch)
