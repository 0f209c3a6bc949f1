"""`docs/results.md` and its charts are what the command writes from the committed JSON, to the letter."""

from __future__ import annotations

from pathlib import Path

from mmplane.bench import results
from mmplane.bench.judge.predictions import NO_FIGURE, judged

DOCS = Path(__file__).parents[3] / "docs"
AGAIN = "write them anew: .venv/bin/python -c 'from pathlib import Path; from mmplane.bench import results; "
AGAIN += 'results.write(Path("docs"))'


def test_the_page_agrees_with_its_json() -> None:
    assert (DOCS / "results.md").read_text() == results.page_of(DOCS).text, AGAIN


def test_its_charts_do_and_there_are_no_others() -> None:
    lying = {path.name: path.read_text() for path in (DOCS / "results").glob("*.svg")}
    assert lying == results.page_of(DOCS).charts, AGAIN


def test_its_timelines_do() -> None:
    drawn = {path.name: path.read_text() for path in (DOCS / results.TIMELINES).glob("*.svg")}
    assert drawn == results.drawings_of(DOCS), AGAIN


def test_every_prediction_has_a_figure() -> None:
    missing = [verdict.prediction.id for verdict in judged(results.found_of(DOCS)) if set(verdict.cells) == {NO_FIGURE}]
    assert not missing
