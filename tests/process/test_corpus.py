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
from live import Live, serving
from pictures import noise, part, text
from qwen_audio import build_qwen_audio

from polling import until

sys.path.insert(0, str(Path(__file__).parents[1] / "corpus"))

from make import CASES, Case

from sounds import sound_part, speech_like, write

BUDGET_BYTES = 1 << 30
GOOD = 4
PAUSE_S = 0.25
"""Between two questions of a good client: with none, they would take the machine from the files."""
REPLY_BYTES_MAX = 1000
LOG_BYTES_MAX = 1000


def logged_bytes(live: Live) -> int:
    """Of the log so far, without the lines of answered requests: good ones run beside the hostile."""
    return sum(len(line) for line in live.log if " 200 in " not in line)


def body(case: Case) -> list[dict[str, Any]]:
    content = base64.b64encode(case.make()).decode()
    if case.kind == "audio":
        media = {"type": "input_audio", "input_audio": {"data": content, "format": "wav"}}
    else:
        kind = f"{case.kind}_url"
        media = {"type": kind, kind: {"url": f"data:{case.kind}/x;base64,{content}"}}
    return [media, text("?")]


def ask(live: Live, seed: int, kind: str) -> str:
    item = part(noise(seed)) if kind == "image" else sound_part(write(speech_like(0.5, seed=seed), 16_000, "WAV"))
    answer = live.chat([item, text("What?")], max_tokens=6, mmplane={"trace": True})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["mmplane"]["trace"]["token_ids"])


@contextmanager
def good_requests(live: Live, kind: str) -> Iterator[list[int]]:
    """Clients who ask for the same items again and again; at the end every answer was right."""
    expected = [ask(live, seed, kind) for seed in range(GOOD)]
    ended = threading.Event()
    wrong: list[BaseException] = []
    counts = [0] * GOOD

    def client(seed: int) -> None:
        try:
            while not ended.is_set():
                assert ask(live, seed, kind) == expected[seed]
                counts[seed] += 1
                ended.wait(PAUSE_S)
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
@pytest.mark.parametrize("takes", [("image", "video"), ("audio",)], ids="-".join)
def test_corpus(takes: tuple[str, ...], tiny_folder: Path, tmp_path: Path) -> None:
    """A model that takes no sounds is asked a few, and the other way round."""
    assert len(CASES) >= 60
    model = tiny_folder
    if "audio" in takes:
        model = tmp_path / "qwen-audio"
        build_qwen_audio(model)
    cases = {name: case for name, case in CASES.items() if case.kind in takes}
    cases |= {name: CASES[name] for name in sorted(CASES.keys() - cases.keys())[:5]}
    wanted = {name: case.status if case.kind in takes else 422 for name, case in cases.items()}
    with serving(model, "--budget-bytes", str(BUDGET_BYTES), tp=1) as live:
        statuses = {}
        with good_requests(live, takes[0]) as counts, peak_bytes(live) as memory:
            pids = live.pids()
            for name, case in cases.items():
                said = logged_bytes(live)
                answer = live.chat(body(case), max_tokens=1)
                statuses[name] = answer.status_code
                if answer.status_code != 200:
                    assert len(answer.content) < REPLY_BYTES_MAX, name
                    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}, name
                assert not re.search(r"0x[0-9a-f]{6,}|/usr/|/home/|\.py", answer.text), name
                ours = f"[{answer.headers['x-request-id']}]"
                until(lambda ours=ours: any(ours in line for line in live.log), 60, "its line is in the log")
                assert logged_bytes(live) - said < LOG_BYTES_MAX, name
            assert live.pids() == pids, "no process of the server has ended"
        assert statuses == wanted
        assert min(counts) > 0
        assert memory["peak"] < BUDGET_BYTES
        until(lambda: live.statistics()["requests"]["in_flight"] == 0, 60, "all have ended")
        after = live.statistics()
        assert after["arena"]["leases"] == 0
        assert after["budget"]["reserved_bytes"] == 0
        total = after["arena"]["total"]
        assert total["free_bytes"] + total["evictable_bytes"] == total["length_bytes"]
