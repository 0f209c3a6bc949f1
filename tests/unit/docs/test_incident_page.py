"""docs/incident.md shows every design, names every label of the analyses, and the README leads to it first."""

from __future__ import annotations

import re
from pathlib import Path

from mmplane.bench.judge.analyses import PREDICTIONS
from mmplane.config import DELIVERY_NAMES

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "incident.md").read_text()


def test_every_design_has_a_section_with_its_drawing() -> None:
    shown = re.findall(r"^### `([\w-]+)`[^\n]*\n\n!\[([\w-]+)\]\((.*?)\)", TEXT, re.MULTILINE)
    assert shown == [(name, name, f"incident/{name}.svg") for name, _, _ in shown]
    assert {name for name, _, _ in shown} == set(DELIVERY_NAMES)
    assert all((ROOT / "docs" / path).exists() for _, _, path in shown)


def test_every_label_of_the_analyses_is_explained() -> None:
    labels = re.findall(r"^\| ([A-D]\d) \|", TEXT, re.MULTILINE)
    assert labels == sorted({each.analysis for each in PREDICTIONS} - {"incident"})


def test_the_readme_links_it_first() -> None:
    assert re.findall(r"\]\((.*?)\)", (ROOT / "README.md").read_text())[0] == "docs/incident.md"
