"""Materialises an order on this rank, from its encoded media."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmplane.core.plan import Work
from mmplane.core.records import Enclosed
from mmplane.delivery.delivery import Delivered, Order
from mmplane.delivery.faults import strike
from mmplane.delivery.feature_hash import hash_features, with_hashes
from mmplane.delivery.lazy import LazyItem

if TYPE_CHECKING:
    from mmplane.delivery.rank_ports import RankPorts

PARCEL_SECONDS = 2.0
"""The leader names a request only when its parcel has been forwarded, so it is here or about to arrive."""

Media = Sequence[bytes | memoryview]


def contents(ports: RankPorts, order: Order) -> list[memoryview]:
    """The inline bytes of each item, from the parcel. Raises RequestError (503) if the parcel is not here."""
    parcel = ports.parcels.get(order.request_id, PARCEL_SECONDS)
    found = []
    for item in order.items:
        assert isinstance(item, Enclosed), "this delivery's items come inline"
        found.append(parcel[item.offset_bytes : item.offset_bytes + item.length_bytes])
    return found


def make(ports: RankPorts, order: Order, media: Media) -> Delivered:
    """The features of each item, decoded on first access as in the incident's server, and hashed if requested.

    Raises RequestError.
    """
    strike(order.fault, "materialise", ports.rank)
    made_s = time.perf_counter()
    lazy = [
        LazyItem(content, item.recipe, ports.materialise)
        for content, item in zip(media, order.items, strict=True)
        if isinstance(item, Enclosed)
    ]
    features = tuple(item.features for item in lazy)
    materialise_ms = sum(item.materialise_ms for item in lazy)
    work = Work(len(lazy), materialise_ms, decode_ms=sum(item.decode_ms for item in lazy), made_s=made_s)
    hashed = [hash_features(item) for item in features] if order.feature_hash else []
    return Delivered(features, work=with_hashes(work, hashed), hashes=tuple(each.value for each in hashed))
