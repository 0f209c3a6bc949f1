"""A sidecar of an engine: found by children, ended with its launcher."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmplane.embed.client import Client
from mmplane.engines.kit.sidecar import Place, begin, end, forget

VARIABLE = "MMPLANE_KIT_PLACE"


def test_children_find_it_until_it_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "another server's")
    assert Place.inherited(VARIABLE) is None
    sidecar, place = begin(VARIABLE, groups=(2, 2), region_bytes=2**20, model=None, producers_bytes=2**21)
    try:
        assert Place.inherited(VARIABLE) == place == Place(sidecar.socket, (2, 2), 2**20)
        sidecar.wait()
        with Client(place.socket, arena_bytes=place.region_bytes) as client:
            assert client.statistics()["leases"] == 0
    finally:
        end(sidecar)
    end(sidecar)
    assert not Path(place.socket).parent.exists()
    forget(VARIABLE)
    assert VARIABLE not in os.environ
    assert Place.inherited(VARIABLE) is None
