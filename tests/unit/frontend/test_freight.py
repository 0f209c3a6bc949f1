"""Features that the front end makes: no more at once than it has threads (analysis B2), and on its loop without any."""

from __future__ import annotations

import asyncio
import threading

import pytest

from mmplane.core.records import Layout, Recipe, Tensor
from mmplane.features.choice import Processors
from mmplane.frontend.request.intake import Media
from mmplane.frontend.send.freight import FeatureFreight
from mmplane.media.materialise import Made
from mmplane.waiting.budget import Budget

ITEMS = 9
LIMIT_S = 60
BYTES = 64
RECIPE = Recipe("image", Layout((Tensor("x", "uint8", (BYTES,), 0),), (), BYTES))


class Makers:
    """Stands for decoding: the first `held` items wait for each other, so that so many are made at once for sure."""

    def __init__(self, held: int) -> None:
        self._all_here = threading.Barrier(held)
        self._lock = threading.Lock()
        self._first = held
        self._now = 0
        self.at_once_max = 0
        self.made = 0

    def __call__(self, *_: object) -> Made:
        with self._lock:
            self._now += 1
            self.at_once_max = max(self.at_once_max, self._now)
            waits = self.made < self._first
            self.made += 1
        if waits:
            self._all_here.wait(LIMIT_S)
        with self._lock:
            self._now -= 1
        return Made(1.0, 1.0, BYTES)


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_no_more_items_are_made_at_once_than_there_are_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    makers = Makers(max(1, threads))
    monkeypatch.setattr("mmplane.frontend.send.freight.materialise", makers)
    budget = Budget(1 << 20, kept_bytes=0, tenants=0)
    freight = FeatureFreight(Processors("float32"), budget, copies=2, threads=threads, feature_hash=False)
    media = [Media(b"m", bytes([index]) * 32, RECIPE) for index in range(ITEMS)]

    async def load() -> int:
        load = await freight.load(media, 1, probe=False)
        load.free()
        return load.work.materialised

    assert asyncio.run(load()) == makers.made == ITEMS
    assert makers.at_once_max == max(1, threads)
