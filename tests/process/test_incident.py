"""A simulated decoder behind all ten deliveries: right features on every rank, made as often as the delivery says."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance import post, switch
from live import Live, serving

from mmplane.bench.inputs.incident import SIDE, incident
from mmplane.bench.inputs.making import Made, make
from mmplane.bench.inputs.sources import Source
from mmplane.bench.inputs.stamps import stamped
from mmplane.config import DELIVERY_NAMES

RANKS = 4
FEATURES_BYTES = 400_000
BY_EVERY_RANK = ("original", "delayed", "delayed-async")


@pytest.fixture(scope="module")
def live(tiny_folder: Path) -> Iterator[Live]:
    workload = incident(f"incident:1:{FEATURES_BYTES}")
    assert workload is not None
    with serving(tiny_folder, "--runner", "null", *workload.flags, tp=RANKS) as server:
        yield server


@pytest.fixture(scope="module")
def item(tiny_folder: Path) -> Made:
    return make(str(tiny_folder), Source("simulated", 7, SIDE, SIDE, FEATURES_BYTES))


@pytest.mark.parametrize("delivery", DELIVERY_NAMES)
def test_an_item_is_made_by_every_rank_or_once(delivery: str, live: Live, item: Made) -> None:
    switch(live, delivery, cache="off")
    before = materialisations(live)
    url = "data:image/jpeg;base64," + base64.b64encode(stamped(item.media, delivery.encode())).decode()
    answer = post(live, [{"type": "image_url", "image_url": {"url": url}}])
    assert answer.status_code == 200, answer.text
    (traced,) = answer.json()["mmplane"]["trace"]["items"]
    assert traced["digests"] == {str(rank): item.digest for rank in range(RANKS)}
    assert traced["shape"] == [FEATURES_BYTES // 4]
    assert materialisations(live) - before == (RANKS if delivery in BY_EVERY_RANK else 1)


def materialisations(live: Live) -> int:
    """Of all processes, since the server started."""
    return sum(tally["materialisations"] for tally in live.statistics()["delivery"]["by_name"].values())
