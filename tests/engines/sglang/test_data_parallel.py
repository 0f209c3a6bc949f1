"""Two tokenizer processes, each with an arena of its own, and two data-parallel groups that either may send to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from sglang_live import is_alive, maps_an_arena, serving, text, until
from sglang_work import CHINA, crops

LIMIT_S = 180.0
AT_ONCE = 4


def test_two_tokenizers_and_two_groups(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_CPU_OMP_THREADS_BIND", "0|1")
    options = ["--dp-size", "2", "--tokenizer-worker-num", "2"]
    how = {"tp": 1, "plugins": "mmplane", "arena_bytes": 64 * 2**20, "log": tmp_path / "log"}
    with serving(folder, *options, **how) as server:
        asked = [[picture, text("What is this?")] for picture in crops(CHINA, 6)]
        first = [server.answers(content) for content in asked]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for _ in range(3):
                assert list(threads.map(server.answers, asked)) == first
        until(lambda: server.figures()["arena_leases"] == 0, LIMIT_S, "no rank holds a lease")
        until(lambda: sum(map(server.figures().get, ("arena_hits", "arena_misses"))) == 24, LIMIT_S, "all were counted")
        assert server.figures()["arena_items"] >= 6
        assert len(server.ranks()) == 2
        assert all(map(maps_an_arena, server.ranks()))
        family = [server.tokenizer, *server.tokenizer.children(recursive=True)]
        assert [process.pid for process in family if _is_worker(process) and not maps_an_arena(process)] == []


def _is_worker(process: psutil.Process) -> bool:
    return is_alive(process) and "sglang::tokenizer_worker" in " ".join(process.cmdline())
