"""`docs/results.md` is what the command writes from the committed JSON, to the letter."""

from __future__ import annotations

import json
from pathlib import Path

from mmplane.bench.report.markdown import page

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_agrees_with_its_json() -> None:
    found = json.loads((DOCS / "results.json").read_text())
    assert (DOCS / "results.md").read_text() == page(found), (
        "write it anew: mmplane bench --from docs/results.json --markdown docs/results.md"
    )
