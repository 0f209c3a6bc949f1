from __future__ import annotations

from typing import Any, NoReturn

import pytest

from mmplane.process import spawner
from mmplane.process.spawner import Spawner


def test_a_sidecars_processes_compute_in_one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are as many workers as cores, and each may load torch (`--generic`); ranks have a rule of their own."""
    started: list[dict[str, str]] = []

    def refuse(*_: Any, env: dict[str, str], **__: Any) -> NoReturn:
        started.append(env)
        raise OSError

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(spawner.subprocess, "Popen", refuse)
    for kind in ("sidecar", "server"):
        with pytest.raises(OSError):
            Spawner("text", kind).start()
    assert [env.get("OMP_NUM_THREADS") for env in started] == ["1", None]
