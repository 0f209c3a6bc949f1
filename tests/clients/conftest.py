"""One server with the built-in model for all clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Live, serving

from mmplane.models.tiny import SHIPPED_WEIGHTS, build_tiny


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    build_tiny(folder, weights=SHIPPED_WEIGHTS)
    return folder


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[Live]:
    """It has to come to rest when all of them have ended."""
    with serving(folder) as live:
        yield live
