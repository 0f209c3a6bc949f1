"""No stranger and no tenant takes the server from another: an honest tenant is answered whatever one does (R20, S14).

`make chaos-strangers` runs each kind alone for a minute; here those without a key, and those with one, come at once.
"""

from __future__ import annotations

import os
import resource
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep

import httpx
import pytest
from live import Live, serving
from pictures import part, photograph, text
from strangers import KINDS

OPERATOR, ALICE, BOB = (f"sk-{secrets.token_hex(16)}" for _ in range(3))
KEYED = ("slow body", "slow reader", "chunked crawl", "1 MB texts", "many parts")
SECONDS = float(os.environ.get("MMPLANE_STRANGERS_SECONDS", "0"))
"""Of each kind alone; 0: the short form."""
SHORT_SECONDS = 5.0
BETWEEN_S = 0.5
FILES = 800
"""So few that the idle connections of one address would take them all."""
PROGRAM = str(Path(__file__).with_name("strangers.py"))
GROUPS = [[kind] for kind in KINDS] if SECONDS else [[kind for kind in KINDS if kind not in KEYED], list(KEYED)]


@pytest.fixture(scope="module")
def guarded(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"{OPERATOR}\nalice:{ALICE}\nbob:{BOB}\n")

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))

    with serving(tiny_folder, "--api-key-file", str(keys), limits=few) as live:
        live.http.headers["authorization"] = f"Bearer {OPERATOR}"
        yield live


def _ask(live: Live) -> tuple[int, str]:
    """A new connection of an honest tenant, for a picture and a text."""
    content = [part(photograph("china")), text("What is this?")]
    body = {"model": "tiny", "max_tokens": 4, "temperature": 0, "messages": [{"role": "user", "content": content}]}
    headers = {"authorization": f"Bearer {BOB}"}
    answer = httpx.post(f"{live.url}/v1/chat/completions", json=body, headers=headers, timeout=60)
    return answer.status_code, answer.json()["choices"][0]["message"]["content"] if answer.is_success else answer.text


@pytest.mark.parametrize("kinds", GROUPS, ids=", ".join)
def test_an_honest_tenant_is_answered(kinds: list[str], guarded: Live) -> None:
    right, pids = _ask(guarded), guarded.pids()
    assert right[0] == 200
    url = httpx.URL(guarded.url)
    seconds = SECONDS or SHORT_SECONDS
    asked = 0
    with ExitStack() as stack:
        strangers = [
            stack.enter_context(
                subprocess.Popen([sys.executable, PROGRAM, kind, url.host, str(url.port), ALICE, str(seconds)])
            )
            for kind in kinds
        ]
        ends_s = monotonic() + seconds
        while monotonic() < ends_s:
            assert _ask(guarded) == right, kinds
            assert httpx.get(guarded.url + "/health", timeout=60).status_code == 200
            asked += 1
            sleep(BETWEEN_S)  # two a second
        assert [stranger.wait(60) for stranger in strangers] == [0] * len(kinds)
    assert asked > 1
    assert _ask(guarded) == right
    assert guarded.pids() == pids
