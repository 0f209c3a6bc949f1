"""What vLLM renders of the requests in `tests/shared/render_requests.py`, one JSON line each.

    tools/peers/vllm/install.sh VLLM
    VLLM/bin/vllm launch render tiny-of-vllm --port 8011 --max-model-len 8192 &
    python tools/peers/vllm/record_render.py http://127.0.0.1:8011 > tests/process/vllm_render.jsonl

`tiny-of-vllm` is a copy of the built-in model's folder, which `mmplane demo` leaves in the cache.
"""

from __future__ import annotations

import hashlib
import json
import sys
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "shared"))
from render_requests import requests

for body in requests():
    asked = urllib.request.Request(
        sys.argv[1] + "/v1/chat/completions/render", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(asked) as answer:
        rendered = json.load(answer)
    ids, features = rendered["token_ids"], rendered["features"] or {}
    print(
        json.dumps(
            {
                "tokens": len(ids),
                "token_ids": hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16],
                "mm_hashes": features.get("mm_hashes"),
                "mm_placeholders": features.get("mm_placeholders"),
            }
        )
    )
