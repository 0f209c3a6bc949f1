"""Whether ranks keep embeddings follows `--cache`: where features are kept, so are embeddings."""

from __future__ import annotations

from typing import Any

import pytest

from mmplane.delivery.names import DELIVERIES
from mmplane.frontend.send.dispatch import Dispatch
from mmplane.frontend.send.rollout import Rollout

ARENA = {"arena"}


@pytest.mark.parametrize(("cache", "keeping"), [("off", set()), ("auto", ARENA), ("on", set(DELIVERIES))])
def test_what_cache_says_holds_for_embeddings(cache: str, keeping: set[str]) -> None:
    class Store:
        cache = True

    store: Any = Store()
    dispatch = Dispatch(Rollout("arena"), {}, store, largest_item_bytes=1, cache="on")
    dispatch.put("arena", 1.0, cache)
    assert {name for name in DELIVERIES if dispatch.keeps(name)} == keeping
