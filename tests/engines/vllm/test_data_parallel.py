"""Two API servers and two data-parallel engines share one arena."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from vllm_live import VLLM, doctor, findings_of, is_alive, part, serving, text
from vllm_work import CHINA, FLOWER, answer

from polling import until

LIMIT_S = 60.0
AT_ONCE = 8
OPTIONS = ("--data-parallel-size", "2", "--api-server-count", "2")


def test_two_api_servers_and_two_engines(folder: Path, tmp_path: Path) -> None:
    """A picture that both get is in memory once; and when an engine core is killed, nothing of ours is left."""
    with serving(folder, *OPTIONS, modes="carry", log=tmp_path / "log") as server:
        asked: list[list[dict[str, Any]]] = []

        def both_have_some() -> bool:
            """Ask about each picture, at once and each by its own connection: even so, one server may take them all."""
            for picture in (CHINA, FLOWER):
                more = [[part(picture), text(f"What is this, {len(asked) + at}?")] for at in range(AT_ONCE)]
                list(clients.map(partial(answer, server), more))
                asked.extend(more)
            return len(lines(server, "first feature in the arena")) == 2 and all(running(server))

        with ThreadPoolExecutor(AT_ONCE) as clients:
            until(both_have_some, LIMIT_S, "both API servers and both engines had some")
        server.settle()
        counted = {"arena_items": 2, "features_carried": len(asked), "features_seen": len(asked)}
        until(lambda: counted.items() <= server.figures().items(), LIMIT_S, f"{counted}")
        ran = doctor(server.url)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert [line.split()[-1] for line in findings_of(ran)] == ["ok"] * 5
        core, sidecars = server.titled("EngineCore")[0], server.titled("mmplane: ")
        assert sidecars
        core.send_signal(signal.SIGKILL)
        server.kill()
        until(lambda: not any(map(is_alive, sidecars)), LIMIT_S, "the sidecar has ended")


def lines(server: VLLM, words: str) -> list[str]:
    """What it has said about this."""
    return [line for line in server.log().splitlines() if words in line]


def running(server: VLLM) -> list[float]:
    """Prompt tokens of each engine."""
    text_ = server.http.get("/metrics").raise_for_status().text
    counts: dict[str, float] = {}
    for line in text_.splitlines():
        if line.startswith("vllm:prompt_tokens_total{"):
            engine = line.partition('engine="')[2].partition('"')[0]
            counts[engine] = counts.get(engine, 0.0) + float(line.rpartition(" ")[2])
    assert len(counts) == 2, counts
    return [*counts.values()]
