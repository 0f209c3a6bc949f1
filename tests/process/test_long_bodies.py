"""Bodies beyond a megabyte go through the parser: same answers, same keys, and its death costs its requests alone."""

from __future__ import annotations

from pathlib import Path

from live import Live, serving, until
from pictures import noise, part, text

from mmplane.frontend.request.bodies import INLINE_BYTES_MAX

LARGE = noise(77, 800, 700)


def ask(live: Live, *pad: str) -> dict[str, object]:
    answer = live.chat([part(LARGE), *map(text, pad), text("?")], max_tokens=4, mmplane={"trace": True})
    assert answer.status_code == 200, answer.text
    (item,) = answer.json()["mmplane"]["trace"]["items"]
    return dict(item)


def test_a_long_body(tiny_folder: Path) -> None:
    assert len(LARGE) > INLINE_BYTES_MAX
    with serving(tiny_folder, tp=1) as live:
        before = live.statistics()
        first, again = ask(live), ask(live)
        assert (first["cache_hit"], again["cache_hit"]) == (False, True)
        assert first["content_key"] == again["content_key"]
        assert live.statistics()["bodies"]["parsed"] == before["bodies"]["parsed"] + 2
        for bad, status in ((b"{" * 2_000_000, 400), (b'{"model": "' + b"x" * 2_000_000 + b'"}', 400)):
            assert live.http.post("/v1/chat/completions", content=bad).status_code == status
        parser = live.processes()["parser"]
        parser.kill()
        until(lambda: live.pids().get("parser", parser.pid) != parser.pid, 60, "a new parser")
        until(lambda: live.chat([part(LARGE)], max_tokens=1).status_code == 200, 60, "long bodies again")
        after = live.statistics()
        assert after["arena"]["leases"] == 0
        assert after["budget"]["reserved_bytes"] == 0
        assert after["arena"]["regions"][0]["free_bytes"] == after["arena"]["regions"][0]["length_bytes"]
        assert b"mmplane_loop_lag_seconds_bucket" in live.http.get("/metrics").content
