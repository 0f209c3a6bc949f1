"""What the plugins do around the engines' own copies to a GPU: `fake_cuda` stands for it, and these for the engines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from test_kit_device import Rank

from fake_cuda import Torch
from mmplane.engines.kit import device
from mmplane.engines.sglang import gpu as sglang
from mmplane.engines.vllm import gpu as vllm


@dataclasses.dataclass
class Item:
    """One of SGLang's items."""

    feature: Any = None
    precomputed_embeddings: Any = None
    model_specific_data: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Inputs:
    mm_items: list[Item | None]


@pytest.fixture
def rank(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rank]:
    """A rank that has begun as the plugins begin it."""
    made = Rank()
    monkeypatch.setattr(device, "_current", made.device)
    made.map()
    yield made
    made.close()


def moving(rank: Rank) -> Callable[..., str]:
    """SGLang's `embed_mm_inputs`: features are replaced by what is on the GPU, other tensors only read."""

    def embed(mm_inputs_list: list[Inputs], length: int) -> str:
        for inputs in mm_inputs_list:
            for item in filter(None, inputs.mm_items):
                for tensor in item.model_specific_data.values():
                    rank.cuda.copy(tensor)
                item.feature = rank.cuda.copy(item.feature)
        return f"embedded {length}"

    return embed


def test_sglang_gets_its_host_array_back_and_the_lease_lasts_for_the_copy(rank: Rank) -> None:
    item = Item(rank.tensor(1))
    address = item.feature.data_ptr()
    assert sglang.embed(moving(rank), mm_inputs_list=[Inputs([item, None])], length=3) == "embedded 3"
    assert item.feature.data_ptr() == address
    item.feature = None  # released: the prefill has ended, or the request
    sglang.drain()
    assert rank.ended == []
    rank.cuda.run()
    sglang.drain()
    assert rank.ended == [1]


def test_whatever_an_item_has_in_the_arena_is_kept(rank: Rank) -> None:
    item = Item(torch.zeros(1), model_specific_data={"crops": rank.tensor(1)})
    sglang.embed(moving(rank), [Inputs([item])], 1)
    item.model_specific_data.clear()
    assert rank.ended == []
    rank.cuda.run()
    sglang.drain()
    assert rank.ended == [1]


def test_features_that_are_not_in_the_arena_are_left_to_sglang(rank: Rank) -> None:
    before = torch.zeros(1)
    item = Item(before)
    sglang.embed(moving(rank), [Inputs([item])], 1)
    assert item.feature is not before


def test_an_encoder_that_fails_has_started_copies_too(rank: Rank) -> None:
    def embed(mm_inputs_list: list[Inputs]) -> None:
        moving(rank)(mm_inputs_list, 1)
        raise RuntimeError("out of memory")

    item = Item(rank.tensor(1))
    with pytest.raises(RuntimeError):
        sglang.embed(embed, [Inputs([item])])
    item.feature = None
    assert rank.ended == []
    rank.cuda.run()
    sglang.drain()
    assert rank.ended == [1]


def test_features_of_another_dtype_are_converted_on_the_gpu(rank: Rank) -> None:
    there = rank.tensor(1).view(torch.float32)
    elsewhere = torch.ones(4)
    got: list[Any] = []

    def materialize(features: list[torch.Tensor], *, device: str, dtype: torch.dtype) -> None:
        got.extend(features)

    for dtype in (torch.bfloat16, torch.float32):
        sglang.materialize(materialize, [there, elsewhere], device="meta", dtype=dtype)
    assert [one.device.type for one in got] == ["meta", "cpu", "cpu", "cpu"]


def test_vllm_copies_what_a_request_has_let_go_of(rank: Rank) -> None:
    rank.write(0, 7)

    def nested_h2d(tensors: Any, device: str, *, pin_memory: bool) -> Any:
        assert pin_memory
        return [rank.cuda.copy(tensors[0])]

    tensors = [rank.tensor(1).reshape(2, -1)]
    moved = vllm.copy(nested_h2d, tensors, "cuda", pin_memory=True)
    tensors.clear()
    assert rank.ended == []
    rank.cuda.run()
    vllm.drain()
    assert rank.ended == [1]
    assert set(moved[0].reshape(-1).tolist()) == {7}


def test_without_a_gpu_the_engines_work_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_current", None)
    item = Item(torch.zeros(1))
    assert sglang.embed(lambda inputs: inputs[0].mm_items, [Inputs([item])]) == [item]
    assert vllm.copy(lambda tensors, device: (tensors, device), "tensors", None) == ("tensors", None)
    sglang.drain()
    vllm.drain()


def test_a_rank_registers_unless_sglang_or_the_operator_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_current", None)
    assert callable(sglang.begin(Torch()))
    monkeypatch.setenv(device.REGISTER_VARIABLE, "0")
    assert sglang.begin(Torch()) == "private"
    assert device.current() is None
    monkeypatch.delenv(device.REGISTER_VARIABLE)
    monkeypatch.setenv(sglang.BUFFER_VARIABLE, "128")
    assert sglang.begin(Torch()) == "private"
    assert device.current() is None
