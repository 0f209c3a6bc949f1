"""Which design a request takes, and how its name travels."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from sglang_rank import Inputs, Item

from mmplane.engines.sglang.building import choice
from mmplane.engines.sglang.building.choice import MARK, VARIABLE, Choice, problem, taken, wanted


def test_the_name_travels_in_a_copy_and_is_taken_out() -> None:
    first, second = Item(torch.zeros(2), {"grid": 1}), Item(torch.zeros(2))
    inputs = Inputs([first, second])
    assert asyncio.run(Choice("leader").mark(inputs)).name == "leader"
    assert MARK not in first.model_specific_data, "another request may have the same item"
    assert inputs.mm_items[0].model_specific_data == {"grid": 1, MARK: "leader"}
    assert inputs.mm_items[1] is second
    assert taken(inputs) == "leader"
    assert taken(inputs) is None
    assert inputs.mm_items[0].model_specific_data == {"grid": 1}


def test_a_share_of_the_requests_takes_the_other_design() -> None:
    chosen = Choice("default")
    chosen.rollout.put("leader", 0.25)

    async def names() -> list[str]:
        return [(await chosen.mark(Inputs([Item(None)]))).name for _ in range(8)]

    assert Counter(asyncio.run(names())) == {"default": 6, "leader": 2}


def test_features_on_a_device_go_as_without_a_design() -> None:
    there = Item(SimpleNamespace(is_cpu=False))
    assert asyncio.run(Choice("leader").mark(Inputs([Item(None), there]))).name == "default"


@pytest.mark.parametrize(
    ("value", "name", "wrong"),
    [(None, None, False), ("", None, False), ("delayed", "delayed", False), ("best", None, True)],
)
def test_the_variable(monkeypatch: pytest.MonkeyPatch, value: str | None, name: str | None, wrong: bool) -> None:
    monkeypatch.delenv(VARIABLE, raising=False) if value is None else monkeypatch.setenv(VARIABLE, value)
    assert wanted() == name
    assert (problem() is not None) == wrong


@pytest.mark.parametrize(("design", "by_arena"), [("", True), ("arena", True), ("eager", False)])
def test_which_features_go_into_the_arena(monkeypatch: pytest.MonkeyPatch, design: str, by_arena: bool) -> None:
    monkeypatch.setenv(VARIABLE, design)
    monkeypatch.setattr("mmplane.engines.sglang.designs.eager.Eager.finish", lambda self, items: None)
    choice.current.cache_clear()
    try:
        assert asyncio.run(choice.goes_by_arena(Inputs([Item(None)]))) == by_arena
    finally:
        choice.current.cache_clear()
