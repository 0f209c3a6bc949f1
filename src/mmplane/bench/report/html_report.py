"""The HTML report of a run: one self-contained file, which opens from disk without a network.

Plotly is inlined from its package. Its plots follow the reader's light or dark mode and can be zoomed.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import Any

import msgspec

from mmplane.bench.judge.evidence import QUIET_CORES, busy
from mmplane.bench.judge.groups import groups
from mmplane.bench.judge.joined import environments
from mmplane.bench.judge.predictions import COLUMNS, NO_FIGURE, Verdict, by_analysis, judged, line
from mmplane.bench.judge.targets import targets
from mmplane.bench.packages import folder_of
from mmplane.bench.report.answers import answers
from mmplane.bench.report.columns import in_order, table
from mmplane.bench.report.markdown import TARGET_COLUMNS, target_cells
from mmplane.bench.report.plots import Plot, plots

SENTENCE_CHARACTERS = 40
"""Longer cells are wrapped."""


def page(found: dict[str, Any]) -> str:
    """Return the whole file."""
    environment = found["environment"]
    drawn = plots(found)
    template = Template(files("mmplane.bench.report").joinpath("report.html").read_text())
    machine = f"{environment['cores']} cores of {environment['cpu']}, {environment['memory_bytes'] / 2**30:.0f} GiB"
    return template.substitute(
        summary=html.escape(f"{environment['at']} on {machine}, load average {environment['load_average']:.1f}"),
        command=html.escape("\n".join(each["command"] for each in environments(found))),
        loaded=_loaded(found),
        answers="".join(f'<p class="answer">{html.escape(text)}</p>' for text in answers(found)),
        tables=_tables(found),
        verdicts="" if busy(found) else _targets(found) + _predictions(judged(found)),
        figures="".join(map(_figure, drawn[:1])),
        multiples="".join(map(_figure, drawn[1:])),
        environment=_environment(environment),
        run=_script(found),
        plots=_script(msgspec.to_builtins(drawn)),
        plotly=(folder_of("plotly") / "package_data" / "plotly.min.js").read_text(),
    )


def _loaded(found: dict[str, Any]) -> str:
    """Return a warning if other processes used the machine during the measurement."""
    if not (used := busy(found)):
        return ""
    return (
        f'<p class="loaded">The machine was busy: other processes used {used:.2f} cores before this run, which is more '
        f"than {QUIET_CORES:g}. Its figures are only a rough guide, so there are no verdicts.</p>"
    )


def _targets(found: dict[str, Any]) -> str:
    measured = [target_cells(each) for each in targets(found) if each.met is not None]
    return f"<h2>Targets of arena</h2>{_table(TARGET_COLUMNS, measured)}" if measured else ""


def _script(value: Any) -> str:
    """Return JSON in which no text can close the script element."""
    return json.dumps(value).replace("<", "\\u003c")


def _tables(found: dict[str, Any]) -> str:
    parts = []
    for title, rows in groups(found["rows"]):
        parts.append(f"<h2>{html.escape(title)}</h2>{_table(*table(in_order(rows)))}")
    if found["skipped"]:
        skipped = [[each["workload"], each["delivery"], each["why"]] for each in found["skipped"]]
        parts.append(f"<h2>Not measured</h2>{_table(('workload', 'delivery', 'why'), skipped)}")
    return "".join(parts)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str) -> str:
    number = re.fullmatch(r"(max )?[\d.,]+|-", text)
    kind = " class=number" if number else " class=text" if len(text) > SENTENCE_CHARACTERS else ""
    return f"<td{kind}>{html.escape(text)}</td>"


def _predictions(verdicts: Sequence[Verdict]) -> str:
    """Return the predictions for which the run has a figure."""
    parts = []
    for name, group in by_analysis([each for each in verdicts if set(each.cells) - {NO_FIGURE}]):
        body = "".join(_verdict(verdict) for verdict in group)
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        rows = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        parts.append(f"<h3>{html.escape(name)}</h3>{rows}")
    return f"<h2>Predicted and measured</h2>{''.join(parts)}" if parts else ""


def _verdict(verdict: Verdict) -> str:
    kind = {True: "yes", False: "no", None: ""}[verdict.agrees]
    texts = (text.replace("**", "").replace("`", "") for text in line(verdict))
    cells = [f"<td class=text>{html.escape(text)}</td>" for text in texts]
    judged_at = COLUMNS.index("verdict")
    cells[judged_at] = cells[judged_at].replace("<td class=text>", f'<td class="{kind}">')
    return f"<tr>{''.join(cells)}</tr>"


def _figure(plot: Plot) -> str:
    title, caption = html.escape(plot.title), html.escape(plot.caption)
    where = f'<div class="plot" id="{html.escape(plot.id)}"></div>'
    return f"<figure><h3>{title}</h3><figcaption>{caption}</figcaption>{where}</figure>"


def _environment(environment: dict[str, Any]) -> str:
    flat = {name: value for name, value in environment.items() if name != "versions"} | environment["versions"]
    return _table(("what", "value"), [[name, str(value)] for name, value in flat.items()])
