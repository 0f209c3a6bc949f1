"""A start that compiles says so, once; one that loads does not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from numba import config, types

from mmplane.features.arithmetic import compiling


def test_compiling_is_logged_once_and_loading_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))

    def start() -> int:
        """What an import does with two loops; how many lines it logs."""
        compiling._tell_that_it_compiles.cache_clear()
        caplog.clear()
        with caplog.at_level(logging.INFO, "mmplane"):
            for kind in (types.int64, types.float64):
                compiling.compiled(kind(kind))(lambda x: x + x)
        return sum("compiling" in record.message for record in caplog.records)

    assert [start(), start()] == [1, 0]
