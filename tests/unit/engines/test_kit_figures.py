"""Counting by reason, gauges, settings, room and the doctor's frame."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from prometheus_client import REGISTRY

from mmplane.engines.kit import doctor, gauges, room, settings
from mmplane.engines.kit.gauges import Gauges
from mmplane.engines.kit.tally import Tally

REASONS = {"full": "the arena has no room for it", "gpu": "it lies on a GPU"}
NAME = "MMPLANE_KIT_SETTING"


def test_each_first_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tally = Tally(REASONS, logging.getLogger("kit"))
    tally.seen(6)
    for count in (0, 2, 1):
        tally.carried(count)
    for reason in ("full", "gpu", "full"):
        tally.passed_over(reason, "3 MiB" if reason == "full" else "")
    assert tally.figures() == {"features_seen": 6, "features_carried": 3}
    assert tally.reasons() == {"full": 2, "gpu": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "mmplane: first feature in the arena",
        "mmplane: first feature passed over because the arena has no room for it (3 MiB); others are only counted",
        "mmplane: first feature passed over because it lies on a GPU; others are only counted",
    ]


def test_a_reason_must_be_declared() -> None:
    tally = Tally(REASONS, logging.getLogger("kit"))
    with pytest.raises(KeyError):
        tally.passed_over("mood")
    assert tally.reasons() == {"full": 0, "gpu": 0}


@pytest.fixture
def fresh() -> Iterator[None]:
    """No gauge of these tests is left in the registry."""
    yield
    for gauge in gauges._made.values():
        REGISTRY.unregister(gauge._gauge)
    gauges._made.clear()


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"mmplane_{name}", labels)


def test_gauges_of_two_engines_in_a_process_show_their_sum(fresh: None) -> None:
    own, shared, by = {"kit_own": "Own"}, {"kit_shared": "Shared"}, {"kit_by": "By reason"}
    pair = [(Gauges(own), Gauges(shared, mode="livemostrecent"), Gauges(by, label="reason")) for _ in range(2)]
    for each, value in zip(pair, (3, 4), strict=True):
        each[0].show(partial(dict, kit_own=value))
        each[1].show(partial(dict, kit_shared=value))
        each[2].show(partial(dict, full=value, gpu=0))
    assert (shown("kit_own"), shown("kit_shared"), shown("kit_by", reason="full")) == (7, 4, 7)
    assert shown("kit_by", reason="gpu") == 0
    del pair[0], each
    gc.collect()
    pair[0][0].show(lambda: {"kit_own": 5})
    assert shown("kit_own") == 5, "an engine that has ended counts no longer"
    with pytest.raises(KeyError):
        pair[0][0].show(lambda: {"kit_shared": 1})


def test_gauges_are_created_at_once_or_when_they_are_first_shown(fresh: None) -> None:
    Gauges({"kit_early": "Early"})
    late = Gauges({"kit_late": "Late"}, late=True)
    assert (shown("kit_early"), shown("kit_late")) == (0, None)
    late.show(lambda: {"kit_late": 2})
    assert shown("kit_late") == 2


def test_of_two_threads_the_later_one_shows_the_newer_count(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other thread has to wait from before the count is read until it is shown."""
    turns: list[str] = []
    own, original = Gauges({"kit_own": "Own"}), gauges._Gauge.set

    def turn(name: str) -> None:
        turns.append(name if gauges._showing.locked() else f"{name} by several threads")

    def read() -> dict[str, float]:
        turn("read")
        return {"kit_own": 1}

    def set_(gauge: Any, *what: Any) -> None:
        turn("set")
        original(gauge, *what)

    monkeypatch.setattr(gauges._Gauge, "set", set_)
    own.show(read)
    assert turns == ["read", "set"]
    assert not gauges._showing.locked()


@pytest.mark.parametrize(("text", "found"), [(None, 5), ("", 5), ("0", 0), (" 10 ", 10), ("8 B", 8)])
def test_a_size(text: str | None, found: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False) if text is None else monkeypatch.setenv(NAME, text)
    assert settings.size_bytes(NAME, 5, most=10) == found


@pytest.mark.parametrize("text", ["11", "-1", "1e3", "1 GiB", "²", "9" * 30])
def test_no_size(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, text)
    with pytest.raises(ValueError, match=f"{NAME}: .* is not a size from 0 to 10"):
        settings.size_bytes(NAME, 5, most=10)


def test_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False)
    assert settings.choice(NAME, ("auto", "on"), "auto") == "auto"
    assert settings.some(NAME, ("make", "carry"), ("make", "carry")) == {"make", "carry"}
    assert settings.flag(NAME, default=True)
    monkeypatch.setenv(NAME, "carry, ")
    assert settings.some(NAME, ("make", "carry"), ("make",)) == {"carry"}
    with pytest.raises(ValueError, match=f"{NAME}: 'carry,' is not one of auto, on"):
        settings.choice(NAME, ("auto", "on"), "auto")
    monkeypatch.setenv(NAME, "")
    assert settings.some(NAME, ("make", "carry"), ("make",)) == frozenset()
    monkeypatch.setenv(NAME, "make,bake")
    with pytest.raises(ValueError, match="'bake' is not one of make, carry"):
        settings.some(NAME, ("make", "carry"), ())


def test_memory_by_what_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False)
    monkeypatch.setattr(room, "memory_available_bytes", lambda: 2**30)
    assert room.arena_bytes(NAME) == 2**28
    assert room.pictures(2**30) == 35
    monkeypatch.setattr(room, "memory_available_bytes", lambda: 2**40)
    assert room.arena_bytes(NAME) == room.BYTES_MAX
    monkeypatch.setenv(NAME, str(2**41))
    with pytest.raises(ValueError, match=r"2097152 MiB wanted, 1048576 MiB available"):
        room.arena_bytes(NAME)


def metrics(seen: int, carried: int, **passed_over: int) -> str:
    lines = ["# HELP mmplane_features_seen Features that came in", "# TYPE mmplane_features_seen gauge"]
    lines += [f'mmplane_features_seen{{pid="1"}} {seen}.0', f"mmplane_features_carried {carried}.0"]
    lines += [f'mmplane_features_passed_over{{reason="{name}"}} {count}.0' for name, count in passed_over.items()]
    return "\n".join([*lines, "sglang:num_requests 7"])


def test_a_server_whose_features_go_through_the_arena() -> None:
    ((subject, trouble),) = doctor.served("S", metrics(5, 3, full=2, gpu=0))
    assert (subject, trouble) == ("S: 5 features, 3 through the arena, passed over: 2 full", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (metrics(2, 0), "none went through the arena"),
        (metrics(2, 0, gpu=2), "none went through the arena"),
        (metrics(0, 0), "no features yet: send it an image"),
        ("sglang:num_requests 7", "it shows no figures of the plugin"),
    ],
)
def test_a_server_that_carried_nothing_fails(text: str, said: str) -> None:
    ((_, trouble),) = doctor.served("S", text)
    assert said in (trouble or "ok")


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/metrics" else 404)
        self.end_headers()
        self.wfile.write(metrics(1, 1).encode())

    def log_message(self, *_: object) -> None:
        pass


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> str | None:
        raise OSError("no such file")

    with HTTPServer(("127.0.0.1", 0), Metrics) as server:
        Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        assert doctor.run("kit", {"this": lambda: None}, ["--kit", url], metrics="switch them on") == 0
    assert capsys.readouterr().out.count(" ok\n") == 2
    assert doctor.run("kit", {"this": lambda: None, "that": broken}, ["--kit"], metrics="") == 1
    assert "OSError: no such file" in capsys.readouterr().out
    assert doctor.run("kit", {}, ["--kit", url], metrics="switch them on") == 1
    assert "switch them on" in capsys.readouterr().out


def test_an_entry_point_that_an_engine_finds() -> None:
    group, name = "sglang.srt.plugins", "mmplane"
    for chosen in (None, "mmplane", "other,mmplane"):
        assert doctor.entry_point(group, name, chosen, "PLUGINS") is None
    assert doctor.entry_point(group, name, "other", "PLUGINS") == "PLUGINS leaves it out: add mmplane"
    assert "no entry point" in (doctor.entry_point(group, "nothing", None, "PLUGINS") or "")


def test_a_tensor_makes_the_trip() -> None:
    assert doctor.makes_the_trip() is None
