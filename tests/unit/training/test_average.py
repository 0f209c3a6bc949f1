"""The running average: it follows, forgets the beginning, and is what a stage ends with."""

from __future__ import annotations

import torch
from torch import nn
from training.average import Average


def _weighing(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def test_it_follows_what_stays() -> None:
    layer = _weighing(0.0)
    average = Average(layer, 0.9)
    nn.init.constant_(layer.weight, 1.0)
    for _ in range(200):
        average.follow()
    average.settle()
    assert torch.allclose(layer.weight, torch.ones(1, 1), atol=1e-3)


def test_it_lies_between_what_swings() -> None:
    layer = _weighing(0.0)
    average = Average(layer, 0.99)
    for step in range(1000):
        nn.init.constant_(layer.weight, 1.0 if step % 2 else -1.0)
        average.follow()
    average.settle()
    assert abs(layer.weight.item()) < 0.02


def test_it_can_be_looked_at_in_between() -> None:
    layer = _weighing(0.0)
    average = Average(layer, 0.5)
    nn.init.constant_(layer.weight, 1.0)
    average.follow()
    average.swap()
    assert 0.0 < layer.weight.item() < 1.0
    average.swap()
    assert layer.weight.item() == 1.0
    average.settle()
    assert layer.weight.item() < 1.0
