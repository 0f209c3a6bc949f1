"""Invariant 1: one materialisation per content key, however many ask; and keys that tell contents apart."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from live import Live
from pictures import noise, part, png, text

from polling import until


def trace(live: Live, *media: bytes, **fields: Any) -> dict[str, Any]:
    answer = live.chat([*map(part, media), text("?")], max_tokens=2, mmplane={"trace": True}, **fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["mmplane"]["trace"]
    return found


class Materialisations:
    """How many there were since."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._before = self._now()

    def _now(self) -> int:
        count: int = self._live.statistics()["plane"]["materialisations"]
        return count

    def __call__(self) -> int:
        return self._now() - self._before


def test_a_repeat_is_a_hit(server: Live) -> None:
    count = Materialisations(server)
    first, second = trace(server, noise(100)), trace(server, noise(100))
    assert [item["cache_hit"] for item in first["items"] + second["items"]] == [False, True]
    assert first["items"][0]["content_key"] == second["items"][0]["content_key"]
    assert first["items"][0]["digests"] == second["items"][0]["digests"]
    assert count() == 1


def test_concurrent_requests_share_one_materialisation(server: Live) -> None:
    count = Materialisations(server)
    with ThreadPoolExecutor(16) as threads:
        traces = list(threads.map(lambda _: trace(server, noise(101, 560, 420)), range(16)))
    hits = [found["items"][0]["cache_hit"] for found in traces]
    assert sorted(hits) == [False] + [True] * 15
    assert len({str(found["items"][0]["digests"]) for found in traces}) == 1
    assert count() == 1


def test_samples_share_one_materialisation(server: Live) -> None:
    count = Materialisations(server)
    answer = server.chat([part(noise(102)), text("?")], n=3, max_tokens=4, temperature=1.0, seed=7)
    assert [choice["index"] for choice in answer.json()["choices"]] == [0, 1, 2]
    assert count() == 1


def test_one_image_twice_in_one_request(server: Live) -> None:
    count = Materialisations(server)
    found = trace(server, noise(103), noise(103))
    assert [item["cache_hit"] for item in found["items"]] == [False, True]
    assert count() == 1


def test_probes_count_nowhere(server: Live) -> None:
    def quiet() -> dict[str, Any] | None:
        statistics = server.statistics()
        return None if statistics["requests"]["in_flight"] else statistics

    before = until(quiet, 60, "earlier requests have been counted")
    assert server.http.get("/ready").status_code == 200
    after = server.statistics()
    for name in ("plane", "requests"):
        assert after[name] == before[name]
    for name in ("items", "hits", "misses", "leases"):
        assert after["arena"][name] == before["arena"][name]


def test_one_pixel_makes_another_key(server: Live) -> None:
    pixels = np.full((84, 112, 3), 128, np.uint8)
    other = pixels.copy()
    other[40, 50, 1] += 1
    one, two = trace(server, png(pixels)), trace(server, png(other))
    assert one["items"][0]["content_key"] != two["items"][0]["content_key"]
    assert one["items"][0]["digests"] != two["items"][0]["digests"]


def test_equal_bytes_of_another_shape_make_another_key(server: Live) -> None:
    pixels = np.full((30, 100, 3), 255, np.uint8)
    wide, tall = trace(server, png(pixels)), trace(server, png(pixels.reshape(100, 30, 3)))
    assert wide["items"][0]["content_key"] != tall["items"][0]["content_key"]
    assert not tall["items"][0]["cache_hit"]


def test_nothing_stays_leased(server: Live) -> None:
    trace(server, noise(104))
    statistics = server.statistics()
    assert statistics["arena"]["leases"] == 0
    assert statistics["budget"]["reserved_bytes"] == 0
    assert statistics["arena"]["total"]["quarantined_bytes"] == 0
