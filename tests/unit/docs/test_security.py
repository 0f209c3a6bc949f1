"""The security document names tests and files of the corpus: they are there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "corpus"))

from make import CASES

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "security.md").read_text()


def test_the_tests_that_it_names_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) > 30
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE)
    ]
    assert missing == []


def test_the_files_of_the_corpus_that_it_names_exist() -> None:
    rows = [line for line in TEXT.splitlines() if "corpus:" in line]
    named = [name for row in rows for name in re.findall(r'"([^"]+)"', row)]
    assert len(named) > 5
    assert {name for name in named if not any(case.endswith(f": {name}") for case in CASES)} == set()


def test_every_hazard_of_the_list_has_a_row() -> None:
    for row in ("R3", "R8", "R12", "R13", "R14", "R16", "R17", *(f"S{number}" for number in range(1, 14))):
        assert f"| {row} |" in TEXT, row
