"""The status page loads nothing and runs nothing but itself."""

from __future__ import annotations

import re

from mmplane.core.stages import PHASES, STAGES
from mmplane.observe.page import HEADERS, PAGE


def test_it_loads_nothing_from_anywhere() -> None:
    text = PAGE.decode()
    assert not re.search(r"https?://|\bsrc=|\bhref=|@import|url\(", text)
    assert re.findall(r'fetch\("([^"]+)"', text) == ["admin/requests"]


def test_the_policy_allows_its_script_its_style_and_this_server() -> None:
    policy = dict(part.split(" ", 1) for part in HEADERS["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for name in ("script-src", "style-src"):
        assert re.fullmatch(r"'sha256-[\w+/]{43}='", policy[name])


def test_nothing_of_it_needs_more_than_the_policy_allows() -> None:
    text = PAGE.decode()
    assert not re.search(r"\bstyle=|\bon\w+=|innerHTML|eval\(|setAttribute\(", text)


def test_every_stage_has_a_colour() -> None:
    (colours,) = re.findall(r"const COLOURS = \{(.*?)\};", PAGE.decode(), re.DOTALL)
    # Admission is what is left of `hold` beside the others: it has no span of its own.
    assert set(re.findall(r"(\w+):", colours)) == {*PHASES, *STAGES} - {"admission"}
