"""The measurement for machines with a GPU, on an engine that does not exist: it answers by the picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[3] / "tools" / "device" / "measure.py"
ENGINE = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from zlib import crc32

class Engine(BaseHTTPRequestHandler):
    def do_GET(self):
        self.say(b"mmplane_features_carried{rank=\\"0\\"} %d\\n" % int(sys.argv[1]))

    def do_POST(self):
        asked = self.rfile.read(int(self.headers["content-length"]))
        wrong = sys.argv[2] if os.environ["SGLANG_PLUGINS"] == "mmplane" else ""
        words = [str(crc32(asked)), wrong]
        self.say(b"".join(b"data: " + json.dumps({"choices": [{"delta": {"content": one}}]}).encode() + b"\\n\\n"
                          for one in words) + b"data: [DONE]\\n\\n")

    def say(self, body):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Engine).serve_forever()
"""


@pytest.mark.parametrize(("carried", "wrong", "code"), [(9, "", 0), (9, "?", 1), (0, "", 1)])
def test_answers_and_carried_features_decide(carried: int, wrong: str, code: int, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    own = ["--cpu", "--turns", "2", "--pictures", "2", "--json", str(figures), "--log", str(tmp_path / "log")]
    command = [sys.executable, "-c", ENGINE, str(carried), wrong]
    ran = subprocess.run(
        [sys.executable, str(TOOL), "sglang", *own, "--", *command], capture_output=True, text=True, check=False
    )
    assert ran.returncode == code, ran.stderr
    found = json.loads(figures.read_text())
    assert [*found] == ["cpu transport", "plugin"]
    assert found["plugin"]["same_answers"] == (0 if wrong else 6)
    assert found["plugin"]["carried"] == 2 * carried
    assert len(ran.stdout.splitlines()) == 3
