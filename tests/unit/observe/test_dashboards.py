"""Dashboard and alerts ask for metrics that exist, by labels that they have; each alert says what to do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmplane.core.stages import PHASES, STAGES
from mmplane.observe.metrics import METRICS

ROOT = Path(__file__).parents[3]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
SUFFIXES = ("_bucket", "_sum", "_count")
EXPORTED = {
    name: metric
    for metric in METRICS
    for name in ([metric.name + suffix for suffix in SUFFIXES] if metric.kind == "histogram" else [metric.name])
}
"""Every name that a query may use."""
GIVEN_BY_PROMETHEUS = {"instance", "job", "le"}
VALUES = {"stage": set(STAGES), "phase": set(PHASES), "outcome": {"answered", "refused", "failed", "aborted"}}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"]
    return group["rules"]


def panels() -> list[dict[str, Any]]:
    return json.loads((ROOT / "deploy" / "grafana.json").read_text())["panels"]


def queries() -> list[str]:
    shown = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    return [*shown, *(rule["expr"] for rule in rules())]


def wrong(query: str) -> list[str]:
    """What of a query the server does not export."""
    complaints = [name for name in re.findall(r"\bmmplane_\w+", query) if name not in EXPORTED]
    for name, selector in re.findall(r"\b(mmplane_\w+)\{([^}]*)\}", query):
        known = GIVEN_BY_PROMETHEUS | set(EXPORTED[name].labels if name in EXPORTED else ())
        for label, value in re.findall(r'(\w+)=~?"([^"]*)"', selector):
            complaints += [f"{name}{{{label}}}"] if label not in known else []
            complaints += [f"{label}={each}" for each in value.split("|") if each not in VALUES.get(label, {each})]
    used = [name for name in re.findall(r"\bmmplane_\w+", query) if name in EXPORTED]
    labels = {label for name in used for label in EXPORTED[name].labels}
    for by in re.findall(r"\b(?:by|on) \(([^)]*)\)", query):
        complaints += [label for label in by.split(", ") if label not in labels | GIVEN_BY_PROMETHEUS]
    if query.count("(") != query.count(")") or query.count("{") != query.count("}"):
        complaints.append("brackets")
    return complaints


@pytest.mark.parametrize("query", queries())
def test_a_query_asks_for_what_there_is(query: str) -> None:
    assert wrong(query) == []


@pytest.mark.parametrize(
    "query",
    [
        "mmplane_nothing_total",
        "mmplane_request_seconds",
        'mmplane_stage_seconds_sum{outcome="answered",colour="red"}',
        'mmplane_stage_seconds_sum{stage="siesta"}',
        "sum by (colour) (mmplane_workers)",
        "sum(mmplane_workers",
    ],
)
def test_a_query_that_asks_for_something_else_is_found_out(query: str) -> None:
    assert wrong(query)


def test_the_dashboard_shows_every_metric() -> None:
    shown = {EXPORTED[name].name for query in queries() for name in re.findall(r"\bmmplane_\w+", query)}
    assert shown == {metric.name for metric in METRICS}


def test_panels_have_places_of_their_own() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_alert_says_what_it_means_and_what_to_do_and_no_other_is_described() -> None:
    described = dict(re.findall(r"^### (Mmplane\w+)\n(.*?)(?=^##|\Z)", OPERATIONS, re.MULTILINE | re.DOTALL))
    alerts = [rule["alert"] for rule in rules()]
    assert sorted(described) == sorted(alerts)
    for text in described.values():
        assert re.search(r"^Means: \w.*?^Do: \S", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_is_complete(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "warn", "info")
    assert rule["annotations"]["summary"]
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}


def test_metrics_table_is_the_codes() -> None:
    (table,) = re.findall(r"<!-- metrics -->\n(.*?)<!-- /metrics -->", OPERATIONS, re.DOTALL)
    expected = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.text} |"
        for metric in METRICS
    ]
    assert table.strip().splitlines()[2:] == expected


def test_stages_table_is_the_codes() -> None:
    section = OPERATIONS.split("## Stages")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`\w+`)? ?\| (`[\w`, ]+) \|", section, re.MULTILINE)
    assert [phase.strip("`") for phase, _ in rows if phase] == list(PHASES)
    assert sorted(stage for _, stages in rows for stage in re.findall(r"`(\w+)`", stages)) == sorted(STAGES)
