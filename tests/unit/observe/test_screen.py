"""What `mmplane top` shows is a function of two snapshots."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from figures import figures
from rich.console import Console

from mmplane.core.stages import PHASES, STAGES
from mmplane.observe.exposition import Figures, exposition
from mmplane.observe.metrics import METRICS
from mmplane.observe.screen import BAR_CELLS, VIEWS, screen, view
from mmplane.observe.snapshot import Between, Snapshot


def shown(before: Figures, after: Figures, *, seconds: float = 2.0) -> str:
    console = Console(file=io.StringIO(), width=160, force_terminal=False)
    snapshots = (
        Snapshot.of(exposition(each, METRICS).decode(), at_s) for each, at_s in ((before, 0.0), (after, seconds))
    )
    console.print(screen(Between(*snapshots)))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_everything_is_there() -> None:
    text = shown(figures(10), figures(30))
    assert "serving" in text
    assert "10.0 requests/s" in text
    assert "80 tokens/s" in text
    assert "5 in flight" in text
    assert "budget 25%" in text
    assert "3 restarts" in text
    for stage in (*PHASES, *STAGES):
        assert re.search(rf"\b{stage}\b", text), stage


def test_a_stages_rate_mean_and_bound() -> None:
    (row,) = re.findall(r"slot_wait +(\S+) +(\S+) +(\S+)", shown(figures(10), figures(30)))
    assert row == ("10.0", "10.0", "<10.0")


def test_ranks_stand_where_they_are() -> None:
    rows = re.findall(r"│ +([01]) +(\d{3}) +(\d+) ", shown(figures(10), figures(30)))
    assert rows == [("0", "130", "0"), ("1", "123", "7")]


def test_deliveries_have_shares_and_rates() -> None:
    text = shown(figures(10), figures(30))
    assert re.search(r"leader +25% +10\.0 +0\.0", text)
    assert re.search(r"arena +75% +10\.0 +0\.0 +200\.0", text)


def test_media_machines_have_rates() -> None:
    text = shown(figures(10), figures(30))
    assert re.search(r"2 +cpu-1 +20\.0 +10\.0 +40\.0", text)
    assert "1 of 2 · 1 lost so far" in text


def test_copies_to_other_machines_with_ranks_have_a_rate() -> None:
    assert "other machines: 1 · 10.0 MiB/s to them · 2 copies under way" in shown(figures(10), figures(30))


def test_a_server_that_none_may_join_shows_no_machines() -> None:
    alone = figures()
    workers = {"lanes": {}, "machines": [], "places": 0}
    copies = {"mirrors": 0, "copies_lacking": 0, "copied_bytes": 0}
    alone = replace(alone, now={**alone.now, "workers": {**alone.now["workers"], **workers}, "copies": copies})
    text = shown(alone, alone)
    assert "media machines" not in text
    assert "other machines" not in text


def test_the_map_has_a_cell_for_whatever_is_there() -> None:
    maps = re.findall(r"[w#u=Q.]{20,}", shown(figures(), figures()))
    assert [len(each) for each in maps] == [BAR_CELLS, BAR_CELLS]
    assert maps[0].count("#") == round(0.1 * BAR_CELLS)
    assert maps[1].count("Q") == 1, "one hundredth would be no cell"


def test_a_server_without_ranks_says_so() -> None:
    text = shown(figures(attached=False), figures(attached=False))
    assert "no ranks" in text
    assert "serving" not in text


@pytest.mark.parametrize("key", VIEWS)
def test_each_view_fits_a_small_terminal(key: str) -> None:
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=False)
    before, after = (Snapshot.of(exposition(figures(count), METRICS).decode(), count / 10) for count in (10, 30))
    console.print(view(Between(before, after), key))
    lines = console.file.getvalue().rstrip("\n").splitlines()  # type: ignore[attr-defined]
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    assert any("1 requests  2 stages  3 arena  4 ranks  5 deliveries  6 machines  q quit" in line for line in lines)
