"""Charts: well-formed, every figure in them where its value says, nothing that a text could break out of."""

from __future__ import annotations

from xml.etree.ElementTree import Element, fromstring

import pytest

from mmplane.bench.draw import bars, lanes, lines
from mmplane.bench.draw.svg import STYLE, ticks

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</text><script>alert(1)</script> & 'more'"


def rects(drawn: str) -> list[Element]:
    return [each for each in fromstring(drawn).iter(f"{SVG}rect") if "fill" in each.attrib]


def of(rect: Element, name: str) -> float:
    return float(rect.attrib[name])


def test_a_bar_is_as_long_as_its_value() -> None:
    panel = bars.Panel("ms", [[("#111", 10.0)], [("#222", 20.0)], None])
    short, long = rects(bars.bars("title", ["one", "two", "three"], [panel]))
    assert of(long, "width") == pytest.approx(2 * of(short, "width"), rel=0.01)
    assert of(long, "y") > of(short, "y")


def test_the_parts_of_a_bar_follow_each_other() -> None:
    panel = bars.Panel("ms", [[("#111", 10.0), ("#222", 0.0), ("#333", 5.0)]])
    first, second = rects(bars.bars("title", ["one"], [panel]))
    assert of(second, "x") == pytest.approx(of(first, "x") + of(first, "width"), abs=0.2)


def test_what_has_no_result_says_so() -> None:
    assert ">no result<" in bars.bars("title", ["one"], [bars.Panel("ms", [None])])


@pytest.mark.parametrize("logarithmic", [True, False])
def test_a_line_rises_with_its_values(logarithmic: bool) -> None:
    line = lines.Line("arena", "#111", [(1.0, 1.0), (10.0, 10.0), (100.0, 100.0)])
    drawn = fromstring(lines.lines("title", "x", "y", [line], logarithmic=logarithmic))
    ys = [float(dot.attrib["cy"]) for dot in drawn.iter(f"{SVG}circle")]
    assert ys == sorted(ys, reverse=True)
    assert (ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)) is logarithmic


def test_bars_that_overlap_lie_in_rows_of_their_own() -> None:
    first, beside, after = (lanes.Bar("rank 0", task, "decode", 5.0 * task, 10.0) for task in range(3))
    assert lanes.stacked([after, beside, first]) == [[first, after], [beside]]


def test_what_belongs_together_lies_in_one_row_in_the_order_of_its_work() -> None:
    waits = [lanes.Bar("rank 0", task, "wait", 0.0, 50.0 - 20.0 * task) for task in range(3)]
    works = [lanes.Bar("rank 0", wait.task, "decode", wait.long_ms, 20.0) for wait in waits]
    assert lanes.stacked([*waits, *works]) == [[waits[task], works[task]] for task in (2, 1, 0)]


def test_a_lane_is_where_its_name_is_and_a_bar_where_its_time_is() -> None:
    drawn = [lanes.Bar("rank 0", 0, "decode", 0.0, 50.0), lanes.Bar("rank 1", 0, "decode", 50.0, 50.0)]
    key, early, late = rects(
        lanes.lanes("title", ["rank 0", "rank 1"], [lanes.Panel("one", 100.0, drawn)], {"decode": "#111"})
    )
    assert of(late, "x") == pytest.approx(of(early, "x") + of(early, "width"), abs=0.2)
    assert of(late, "y") > of(early, "y") > of(key, "y")


def test_texts_cannot_break_out() -> None:
    panel = lanes.Panel(HOSTILE, 1.0, [lanes.Bar(HOSTILE, 0, HOSTILE, 0.0, 1.0, HOSTILE)])
    for drawn in (
        bars.bars(HOSTILE, [HOSTILE], [bars.Panel(HOSTILE, [[("#111", 1.0)]], [(HOSTILE, "#111")])]),
        lines.lines(HOSTILE, HOSTILE, HOSTILE, [lines.Line(HOSTILE, "#111", [(1.0, 1.0)])]),
        lanes.lanes(HOSTILE, [HOSTILE], [panel], {HOSTILE: "#111"}),
    ):
        assert f"{SVG}script" not in {each.tag for each in fromstring(drawn).iter()}


@pytest.mark.parametrize("most", [0.0, 0.003, 1.0, 7.0, 99.0, 12345.0])
def test_ticks_reach_the_largest_value_and_are_few(most: float) -> None:
    marks = ticks(most)
    assert marks[0] == 0.0
    assert marks[-1] >= most
    assert 2 <= len(marks) <= 6


def test_colours_follow_the_readers_scheme() -> None:
    assert "prefers-color-scheme: dark" in STYLE
