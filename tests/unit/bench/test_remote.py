"""`mmplane bench --url`: what is sent to a server that knows nothing of mmplane, and what is made of its answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mmplane.bench import main
from mmplane.bench.inputs.workloads import WORKLOADS
from mmplane.bench.remote import Pace, Sample, measure, row

TOKENS = 4


class Stranger(ThreadingHTTPServer):
    """Streams `TOKENS` pieces, or refuses; remembers what was asked and by whose key."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.refuse_every = 0
        self.lock = threading.Lock()
        self.now = self.most = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stranger

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(200, json.dumps({"data": [{"id": "theirs"}]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.asked.append(body)
            self.server.keys.add(self.headers["authorization"])
            number = len(self.server.asked)
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        if self.server.refuse_every and number % self.server.refuse_every == 0:
            self._answer(503, b"{}")
        else:
            pieces = [{"choices": [{"delta": {"role": "assistant", "content": ""}}]}]
            pieces += [{"choices": [{"delta": {"content": "x"}}]}] * TOKENS
            pieces.append({"choices": [], "usage": {"completion_tokens": TOKENS}})
            events = [f"data: {json.dumps(piece)}\n\n" for piece in pieces]
            self._answer(200, ("".join(events) + "data: [DONE]\n\n").encode())
        with self.server.lock:
            self.server.now -= 1

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    with Stranger() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def url(server: Stranger) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def test_a_workload_is_sent_without_what_only_mmplane_knows(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMPLANE_API_KEY", "the-key")
    ticks: list[int] = []
    found = measure(url(stranger), None, WORKLOADS["photo"], Pace(6, 2, None, TOKENS, 0), lambda: ticks.append(1))
    assert (found["requests"], found["errors"], len(ticks)) == (6, 0, 6)
    assert found["tokens_per_s"] == pytest.approx(found["qps"] * TOKENS)
    assert stranger.keys == {"Bearer the-key"}
    assert stranger.most <= 2
    for body in stranger.asked:
        assert "mmplane" not in body
        assert (body["model"], body["max_tokens"], body["stream"]) == ("theirs", TOKENS, True)
        assert body["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")
    pictures = {body["messages"][0]["content"][0]["image_url"]["url"] for body in stranger.asked}
    assert len(pictures) == 6, "no cache of theirs knows any of them"


def test_the_command_prints_a_table_writes_json_and_fails_with_requests(
    stranger: Stranger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--url", url(stranger) + "/v1", "--workload", "photo", "--requests", "4", "--tokens", str(TOKENS)]
    flags += ["--concurrency", "1", "--json", str(tmp_path / "run.json")]
    assert main.main(flags) == 0
    stranger.refuse_every = 2
    assert main.main(flags) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "photo, 1 at once" in line][1:]
    assert line.replace("│", " ").split()[4:6] == ["4", "2"], "requests and errors"
    (found,) = json.loads((tmp_path / "run.json").read_text())["rows"]
    assert (found["workload"], found["model"], found["errors"]) == ("photo", "theirs", 2)
    assert found["first_token_ms"]["p99"] > 0


def test_flags_of_servers_of_our_own_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--url", "http://127.0.0.1:9", "--tp", "4"]) == 2
    assert "--tp only applies to servers that the bench starts" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--url", "http://127.0.0.1:9", "--workload", "photo", "--requests", "1"]) == 2
    assert "http://127.0.0.1:9 cannot be reached" in capsys.readouterr().err


def test_figures_are_of_answered_requests() -> None:
    samples = [Sample(200, 1.0, (0.2, 0.3, 0.5), 3), Sample(200, 3.0, (0.4,), 1), Sample(503, 0.1, (), 0)]
    found = row("photo", "theirs", Pace(3, 3, None, 3, 0), samples, 2.0)
    assert (found["errors"], found["qps"], found["tokens_per_s"]) == (1, 1.0, 2.0)
    assert found["latency_ms"] == {"mean": 2000.0, "p50": 1000.0, "p99": 3000.0}
    assert found["first_token_ms"] == {"p50": 200.0, "p99": 400.0}
    assert found["inter_token_ms"]["p50"] == pytest.approx(100.0)
