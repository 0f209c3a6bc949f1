"""What vLLM 0.32 renders of two hundred requests, recorded by tools/peers/vllm, and what a server of ours does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from render_requests import requests

RECORDED = [json.loads(line) for line in Path(__file__).with_name("vllm_render.jsonl").read_text().splitlines()]


def check_that_all_is_vllms(render: Callable[[dict[str, Any]], Any]) -> None:
    """`render` has the server's answer to the body of a request. The server's `--model-id` is that vLLM's model."""
    for number, (body, recorded) in enumerate(zip(requests(), RECORDED, strict=True)):
        answer = render(body | {"model": "tiny"})
        assert answer.status_code == 200, (number, answer.text)
        rendered = answer.json()
        ids, features = rendered["token_ids"], rendered["features"] or {}
        assert len(ids) == recorded["tokens"], number
        assert hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16] == recorded["token_ids"], number
        for name in ("mm_hashes", "mm_placeholders"):
            assert features.get(name) == recorded[name], (number, name)
