"""docs/models.md is what the suite of architectures found, and nothing that it found is wrong."""

from __future__ import annotations

import json
from pathlib import Path

from architectures import ARCHITECTURES
from page import page

DOCS = Path(__file__).parents[3] / "docs"
RIGHT_MIN = 24


def test_the_page_is_generated() -> None:
    verdicts = json.loads((DOCS / "models.json").read_text())
    assert set(verdicts) == set(ARCHITECTURES)
    assert (DOCS / "models.md").read_text() == page(verdicts)


def test_each_is_right_or_refused_with_a_reason() -> None:
    verdicts = json.loads((DOCS / "models.json").read_text())
    every = [verdict for by_tp in verdicts.values() for verdict in by_tp.values()]
    assert {verdict["kind"] for verdict in every} == {"right", "refused"}
    assert all(verdict["reason"] for verdict in every if verdict["kind"] == "refused")
    assert sum(by_tp["1"]["kind"] == "right" for by_tp in verdicts.values()) >= RIGHT_MIN
