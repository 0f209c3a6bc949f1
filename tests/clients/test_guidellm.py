"""guidellm against our own server: chats about pictures, and texts to complete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from live import Live

from loads import REQUESTS, run

GUIDELLM = Path(__file__).parents[2] / ".venv-guidellm" / "bin" / "guidellm"
PICTURES = ("/v1/chat/completions", "kind=synthetic_image,width=96,height=64,output_tokens=8")
TEXTS = ("/v1/completions", "kind=synthetic_text,prompt_tokens=16,output_tokens=8")


@pytest.mark.parametrize("workload", [PICTURES, TEXTS], ids=["pictures", "texts"])
def test_every_request_succeeds(server: Live, folder: Path, tmp_path: Path, workload: tuple[str, str]) -> None:
    route, data = workload
    asked = ("--backend", f"kind=openai_http,target={server.url},model=tiny,request_format={route}", "--data", data)
    load = ("--profile", "kind=concurrent,streams=2", "--constraint", f"kind=max_requests,count={REQUESTS}")
    outputs = ("--output", "kind=console", "--output", f"kind=json,path={tmp_path / 'report.json'}")
    tokenizer = ("--tokenizer", f"kind=hf_auto,model={folder}")
    printed = run([GUIDELLM, "run", *asked, *load, *tokenizer, *outputs, "--disable-progress"])
    assert "Request Latency Statistics" in printed
    (benchmark,) = json.loads((tmp_path / "report.json").read_text())["benchmarks"]
    totals = {"successful": REQUESTS, "errored": 0, "incomplete": 0, "total": REQUESTS}
    assert benchmark["metrics"]["request_totals"] == totals
