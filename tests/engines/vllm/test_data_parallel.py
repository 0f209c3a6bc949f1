"""Two API servers and two data-parallel engines share one arena."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from vllm_live import VLLM, doctor, findings_of, is_alive, part, serving, text, until
from vllm_work import CHINA, FLOWER, answer

LIMIT_S = 60.0
ROUNDS = 8
OPTIONS = ("--data-parallel-size", "2", "--api-server-count", "2")


def test_two_api_servers_and_two_engines(folder: Path, tmp_path: Path) -> None:
    """A picture that both get is in memory once; and when an engine core is killed, nothing of ours is left."""
    with serving(folder, *OPTIONS, modes="carry", log=tmp_path / "log") as server:
        # At once and each by its own connection: alone, one server may accept them all.
        with ThreadPoolExecutor(ROUNDS) as clients:
            for picture in (CHINA, FLOWER):
                asked = [[part(picture), text(f"What is this, {at}?")] for at in range(ROUNDS)]
                list(clients.map(partial(answer, server), asked))
        until(lambda: len(lines(server, "first feature in the arena")) == 2, LIMIT_S, "both API servers had some")
        server.settle()
        figures = server.figures()
        assert figures["arena_items"] == 2
        assert figures["features_carried"] == figures["features_seen"] == 2 * ROUNDS
        assert all(count > 0 for count in running(server))
        ran = doctor(server.url)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert [line.split()[-1] for line in findings_of(ran)] == ["ok"] * 5
        core = server.titled("EngineCore")[0]
        core.send_signal(signal.SIGKILL)
        sidecars = [process for process in server.processes if is_alive(process) and "mmplane" in process.name()]
        assert sidecars
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
