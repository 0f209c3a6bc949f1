"""The engine that does not exist is the same before each test, whatever the one before has done to it."""

from __future__ import annotations

from collections.abc import Iterator

import kit_engine
import pytest

from mmplane.engines.kit import applied


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(applied, "_originals", {})
    owners = (kit_engine, kit_engine.Base, kit_engine.Engine, kit_engine.Derived)
    before = [dict(vars(owner)) for owner in owners]
    yield
    for owner, names in zip(owners, before, strict=True):
        for name in set(vars(owner)) - set(names):
            delattr(owner, name)
        for name, value in names.items():
            if vars(owner)[name] is not value:
                setattr(owner, name, value)
