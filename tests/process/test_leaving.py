"""Clients that leave, and servers that do: aborts in every stage, draining, stopping at once."""

from __future__ import annotations

import json
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from live import Live, serving
from pictures import noise, part, text

from polling import until


def body(picture: int, **fields: Any) -> dict[str, Any]:
    message = {"role": "user", "content": [part(noise(picture, 560, 560)), text("Tell me all")]}
    return {"model": "tiny", "messages": [message], "max_tokens": 2500, "temperature": 1.0} | {
        "mmplane": {"ignore_eos": True},
        **fields,
    }


def quiet(live: Live) -> bool:
    statistics = live.statistics()
    ranks = statistics["ranks"]
    return (
        statistics["requests"]["in_flight"] == 0
        and statistics["arena"]["leases"] == 0
        and statistics["budget"]["reserved_bytes"] == 0
        and ranks["in_flight"] == 0
        and ranks["progress"]["running"] == ranks["progress"]["waiting"] == ranks["progress"]["kv_tokens"] == 0
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("after", ["headers", "half the body", "the body", "a moment"])
def test_a_client_that_leaves(after: str, stream: bool, server: Live) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    content = json.dumps(body(600, stream=stream)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(head)
        if after == "half the body":
            client.sendall(content[: len(content) // 2])
        elif after != "headers":
            client.sendall(content)
        if after == "a moment":
            until(lambda: server.statistics()["ranks"]["in_flight"], 60, "it reaches the ranks")
    until(lambda: quiet(server), 60, "nothing of it is left")


def test_a_stream_that_nobody_reads_to_the_end(server: Live) -> None:
    request = body(601, stream=True, n=3)
    with (
        httpx.Client(base_url=server.url, timeout=60) as client,
        client.stream("POST", "/v1/chat/completions", json=request) as answer,
    ):
        lines = answer.iter_lines()  # kept: an iterator that is thrown away closes the connection
        for _ in range(12):
            next(lines)
        assert server.statistics()["ranks"]["in_flight"] == 1
    until(lambda: quiet(server), 60, "nothing of it is left")


def test_others_that_share_the_item_go_on(server: Live) -> None:
    statuses: list[int] = []
    shared = body(602, max_tokens=8)
    threads = [
        threading.Thread(
            target=lambda: statuses.append(server.http.post("/v1/chat/completions", json=shared).status_code)
        )
        for _ in range(4)
    ]
    with (
        httpx.Client(base_url=server.url, timeout=httpx.Timeout(60, read=0.05)) as hasty,
        pytest.raises(httpx.ReadTimeout),
    ):
        hasty.post("/v1/chat/completions", json=body(602))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 4
    until(lambda: quiet(server), 60, "nothing is left")


class RunningStream(threading.Thread):
    """A streamed request that is under way once this is made."""

    def __init__(self, live: Live, tokens_max: int = 1500) -> None:
        super().__init__()
        self._live = live
        self._body = body(603, stream=True, seed=1, max_tokens=tokens_max)
        self.lines: list[str] = []
        self.start()
        until(lambda: len(self.lines) > 4, 60, "the stream runs")

    def run(self) -> None:
        with httpx.Client(base_url=self._live.url, timeout=60) as client:
            try:
                with client.stream("POST", "/v1/chat/completions", json=self._body) as answer:
                    for line in answer.iter_lines():
                        if line:
                            self.lines.append(line)
            except httpx.TransportError:
                pass


SLOW = ("--runner", "sim:5")
"""Ranks that compute nothing and take 5 ms for a token: an answer's length is its time."""


def test_drain(tiny_folder: Path) -> None:
    with serving(tiny_folder, *SLOW, "--drain-seconds", "600") as live:
        running = RunningStream(live)
        live.signal(signal.SIGTERM)
        until(lambda: live.http.get("/ready").status_code == 503, 60, "it is not ready any more")
        assert live.http.get("/health").status_code == 200
        refused = live.chat("Hi")
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        running.join()
        assert running.lines[-1] == "data: [DONE]"
        assert live.wait() == 0


def test_a_second_signal_stops_at_once(tiny_folder: Path) -> None:
    with serving(tiny_folder, *SLOW, "--drain-seconds", "600") as live:
        running = RunningStream(live, tokens_max=4000)
        live.signal(signal.SIGTERM)
        until(lambda: live.http.get("/ready").status_code == 503, 60, "it drains")
        live.signal(signal.SIGTERM)
        live.wait()
        running.join()
        assert running.lines[-1] != "data: [DONE]"


def test_drain_has_a_limit(tiny_folder: Path) -> None:
    with serving(tiny_folder, *SLOW, "--drain-seconds", "0.5") as live:
        running = RunningStream(live, tokens_max=4000)
        live.signal(signal.SIGTERM)
        assert live.wait() == 0
        running.join()
        assert json.loads(running.lines[-1].removeprefix("data: "))["error"]["code"] == "unavailable"
