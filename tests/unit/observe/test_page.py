"""The status page loads nothing and runs nothing but itself."""

from __future__ import annotations

import json
import math
import re
from itertools import combinations

from mmplane.core.stages import PHASES, STAGES
from mmplane.observe.colours import STAGE_COLOURS
from mmplane.observe.page import HEADERS, PAGE


def test_it_loads_nothing_from_anywhere() -> None:
    text = PAGE.decode().replace("http://www.w3.org/2000/svg", "")  # the name of SVG's elements
    assert not re.search(r"https?://|\bsrc=|@import|url\(", text)
    assert re.findall(r'\bhref="([^"]+)"', text) == ["metrics", "admin/statistics", "v1/models"]
    assert re.findall(r'fetch\("([^"]+)"', text) == ["admin/requests", "v1/chat/completions"]


def test_it_stores_nothing() -> None:
    assert not re.search(r"localStorage|sessionStorage|indexedDB|cookie", PAGE.decode())


def test_the_policy_allows_its_script_its_style_and_this_server() -> None:
    policy = dict(part.split(" ", 1) for part in HEADERS["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for name in ("script-src", "style-src"):
        assert re.fullmatch(r"'sha256-[\w+/]{43}='", policy[name])


def test_nothing_of_it_needs_more_than_the_policy_allows() -> None:
    text = PAGE.decode()
    assert not re.search(r"\bstyle=|\bon\w+=|innerHTML|eval\(|setAttribute\(\W(?:style|on)", text)


def test_every_stage_has_a_colour() -> None:
    (colours,) = re.findall(r"const COLOURS = (\{.*?\});", PAGE.decode())
    assert set(json.loads(colours)) == {*PHASES, *STAGES}


def test_any_two_stages_can_be_told_apart() -> None:
    assert set(STAGE_COLOURS) == set(STAGES)
    lab = {stage: _lab(colour) for stage, colour in STAGE_COLOURS.items()}
    nearest = min((math.dist(lab[one], lab[two]), one, two) for one, two in combinations(lab, 2))
    assert nearest[0] > 20, nearest


def _lab(colour: str) -> tuple[float, float, float]:
    """CIE L*a*b*, in which a distance of 2 is just visible."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)
