"""While a model loads, the log says so."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from mmplane.ranks.model.progress import progress_logged


def test_the_log_says_how_far_loading_is(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(2**20))
    said: list[str] = []
    twice = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            if len(said) == 2:
                twice.set()

    log, listener = logging.getLogger("mmplane"), Listener()
    log.addHandler(listener)
    try:
        with pytest.MonkeyPatch.context() as patch, progress_logged(1, str(tmp_path), every_s=0.001):
            patch.setattr(log, "isEnabledFor", lambda _: True)
            assert twice.wait(60)
    finally:
        log.removeHandler(listener)
    assert all("rank 1 has been loading the model for" in line for line in said)
