"""What the documents say of files is what the tests send to servers."""

from __future__ import annotations

import sys

from test_architecture import HTTP, ROOT, section

from accepted import table

sys.path.insert(0, str(ROOT / "tests" / "corpus"))

from make import CASES, WAS


def test_the_table_of_accepted_files_lists_what_is_tried() -> None:
    assert section(HTTP, "accepted") == table(), f"in docs/http.md, between the marks, put:\n\n{table()}"


def test_hostile_files_that_were_refused_once_are_listed() -> None:
    rows = [f"| {name} | {before} | {CASES[name].status} |" for name, before in WAS.items()]
    wanted = "\n".join(["| file | status before | status |", "|---|---|---|", *rows])
    assert section(ROOT / "docs" / "security.md", "was") == wanted, wanted
