"""`docs/results-sglang.md` is what the benchmark writes from the committed JSON, and has a row for every design."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.sglang_page import page_of

from mmplane.engines.sglang.designs.names import DESIGNS

DOCS = Path(__file__).parents[3] / "docs"
MEASURED = json.loads((DOCS / "results-sglang.json").read_text())


def test_the_page_agrees_with_its_json() -> None:
    assert (DOCS / "results-sglang.md").read_text() == page_of(MEASURED["run"], MEASURED["rows"])


def test_every_design_has_its_rows() -> None:
    for tp, at_once in {(row["tp"], row["at_once"]) for row in MEASURED["rows"]}:
        kinds = {row["kind"] for row in MEASURED["rows"] if (row["tp"], row["at_once"]) == (tp, at_once)}
        assert {f"design `{name}`" for name in DESIGNS} < kinds
        assert any("the incident's flag" in kind for kind in kinds)
