"""Every file of the corpus through a real server, while good requests run: the right status, and nobody notices."""

from __future__ import annotations

import base64
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from burst import peak_bytes
from live import Live, serving, until
from pictures import noise, part, text

sys.path.insert(0, str(Path(__file__).parents[1] / "corpus"))

from make import CASES, Case

BUDGET_BYTES = 1 << 30
GOOD = 8
REPLY_BYTES_MAX = 1000
LOG_BYTES_MAX = 1000


def body(case: Case) -> list[dict[str, Any]]:
    content = base64.b64encode(case.make()).decode()
    if case.kind == "audio":
        media = {"type": "input_audio", "input_audio": {"data": content, "format": "wav"}}
    else:
        kind = f"{case.kind}_url"
        media = {"type": kind, kind: {"url": f"data:{case.kind}/x;base64,{content}"}}
    return [media, text("?")]


def ask(live: Live, seed: int) -> str:
    answer = live.chat([part(noise(seed)), text("What?")], max_tokens=6, mmplane={"trace": True})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["mmplane"]["trace"]["token_ids"])


@contextmanager
def good_requests(live: Live) -> Iterator[list[int]]:
    """Eight clients who ask for the same pictures again and again; at the end every answer was right."""
    expected = [ask(live, seed) for seed in range(GOOD)]
    ended = threading.Event()
    wrong: list[BaseException] = []
    counts = [0] * GOOD

    def client(seed: int) -> None:
        try:
            while not ended.is_set():
                assert ask(live, seed) == expected[seed]
                counts[seed] += 1
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(GOOD)]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        ended.set()
        for thread in threads:
            thread.join(120)
    assert not wrong, wrong[0]


@pytest.mark.timeout(600)
def test_corpus(tiny_folder: Path) -> None:
    assert len(CASES) >= 60
    with serving(tiny_folder, "--budget-bytes", str(BUDGET_BYTES), tp=1) as live:
        statuses = {}
        with good_requests(live) as counts, peak_bytes(live) as memory:
            pids = live.pids()
            for name, case in CASES.items():
                said = len("".join(live.log))
                answer = live.chat(body(case), max_tokens=1)
                statuses[name] = answer.status_code
                if answer.status_code != 200:
                    assert len(answer.content) < REPLY_BYTES_MAX, name
                    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}, name
                assert not re.search(r"0x[0-9a-f]{6,}|/usr/|/home/|\.py", answer.text), name
                assert len("".join(live.log)) - said < LOG_BYTES_MAX, name
            assert live.pids() == pids, "no process of the server has ended"
        assert statuses == {name: case.status for name, case in CASES.items()}
        assert min(counts) > 0
        assert memory["peak"] < BUDGET_BYTES
        until(lambda: live.statistics()["requests"]["in_flight"] == 0, 60, "all have ended")
        after = live.statistics()
        assert after["arena"]["leases"] == 0
        assert after["budget"]["reserved_bytes"] == 0
        total = after["arena"]["total"]
        assert total["free_bytes"] + total["evictable_bytes"] == total["length_bytes"]
