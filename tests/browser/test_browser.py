"""The report in a real browser, headless: it draws, in light and dark, with data in every plot and no complaint.

`make test-report` runs this; it needs Debian's chromium. MMPLANE_CHROMIUM names another binary.
"""

from __future__ import annotations

import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from bench_run import whole_run
from chromium import CHROMIUM, FLAGS, browsing

from mmplane.bench.report.html_report import page

MARKS = ("trace", "point", "points", "scatter", "bars", "js-line")
"""Classes that Plotly gives to what it has drawn of data."""


class Drawn(HTMLParser):
    """How many marks of data each plot of a drawn page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.marks: dict[str, int] = {}
        self._plot = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        classes = given.get("class", "").split()
        if "plot" in classes and "id" in given and tag == "div":
            self._plot = given["id"]
            self.marks[self._plot] = 0
        if tag == "path" and self._plot and given.get("d", "").strip() not in ("", "M0,0Z"):
            self.marks[self._plot] += bool(set(classes) & set(MARKS)) or "vector-effect" in given.get("style", "")


def browse(report: Path, profile: Path, *flags: str) -> tuple[str, list[str]]:
    """The page's elements once its scripts have run, and what the console said."""
    command = [
        CHROMIUM,
        *FLAGS,
        "--enable-logging=stderr",
        *flags,
        f"--user-data-dir={profile}",
        "--virtual-time-budget=60000",
        "--dump-dom",
    ]
    run = subprocess.run([*command, report.as_uri()], capture_output=True, text=True, timeout=110, check=True)
    return run.stdout, [line for line in run.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(whole_run()))
    return path


@pytest.mark.parametrize("scheme", [1, 0], ids=["light", "dark"])
def test_the_report_draws_every_plot_without_complaint(report: Path, tmp_path: Path, scheme: int) -> None:
    text, console = browse(report, tmp_path, f"--blink-settings=preferredColorScheme={scheme}")
    assert console == []
    plots = json.loads(re.findall(r'id="plots">(.*?)</script>', report.read_text(), re.DOTALL)[0])
    assert f'data-drawn="{len(plots)}"' in text
    marks = Drawn(text).marks
    assert sorted(marks) == sorted(plot["id"] for plot in plots)
    assert [plot for plot, count in marks.items() if count == 0] == []


OVERLAPPING = """[...document.querySelectorAll(".plot")].flatMap(plot => {
  const labels = [...plot.querySelectorAll(".xtitle, .x2title, .ytitle, .legendtext, .ytick text, .xtick text")]
    .map(label => [label.textContent, label.getBoundingClientRect()]).filter(([, box]) => box.width);
  return labels.flatMap(([one, a], at) => labels.slice(at + 1)
    .filter(([, b]) => a.left + 1 < b.right && b.left + 1 < a.right && a.top + 1 < b.bottom && b.top + 1 < a.bottom)
    .map(([other]) => [plot.id, one, other]));
})"""


@pytest.mark.parametrize("width", [1400, 900])
def test_no_label_overlaps_another(report: Path, tmp_path: Path, width: int) -> None:
    with browsing(tmp_path) as page:
        page.open(report.as_uri(), width=width)
        page.until("document.documentElement.dataset.drawn")
        assert page.ask("document.querySelectorAll('.plot .legendtext').length") > 20
        assert page.ask(OVERLAPPING) == []


def test_a_page_that_fails_is_found_out(report: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(
        report.read_text().replace('"use strict";\nconst plots', '"use strict";\nnowhere();\nconst plots')
    )
    text, console = browse(broken, tmp_path / "profile")
    assert any("nowhere" in line for line in console)
    assert "data-drawn" not in text
