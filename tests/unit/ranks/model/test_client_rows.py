"""Rows that a client computed: no tower runs, and nothing of the slot is kept (invariant 6)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from mmplane.core.records import Item, Slot, Tensor
from mmplane.ranks.model.runner import Runner
from mutation import Mutant, check_it_is_killed

ITEM = Item(b"key", "image", Slot(0, 0, 32, 0), (Tensor("image_embeds", "float32", (2, 4), 0),))


def encoded(slot: torch.Tensor) -> torch.Tensor:
    runner: Any = SimpleNamespace(_embed=SimpleNamespace(weight=torch.zeros(1)), _encoders={})
    return Runner._encode(cast("Runner", runner), ITEM, {"image_embeds": slot})


def test_the_slot_may_be_written_again_once_a_request_is_held() -> None:
    slot = torch.arange(8, dtype=torch.float32).reshape(2, 4)
    rows, before = encoded(slot), slot.clone()
    slot.zero_()
    assert torch.equal(rows, before)


def test_rows_are_in_the_models_dtype() -> None:
    assert encoded(torch.ones(2, 4, dtype=torch.bfloat16)).dtype == torch.float32


def test_keeping_a_view_of_the_slot_is_found_out(request: pytest.FixtureRequest) -> None:
    killer = test_the_slot_may_be_written_again_once_a_request_is_held
    check_it_is_killed(Mutant("the slot is kept", Runner._encode, ", copy=True", "", killer), request)
