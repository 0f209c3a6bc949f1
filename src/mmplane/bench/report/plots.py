"""The report's plots as data for Plotly, from a run's JSON. Pure, and the same in light and dark mode.

A plot without data is left out. Each delivery has the same colour in all plots.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import msgspec

from mmplane.bench.judge.groups import Row, groups
from mmplane.bench.report.columns import P99_MIN, in_order, short
from mmplane.config import DELIVERY_NAMES
from mmplane.core.histogram import edge_ms
from mmplane.core.stages import STAGES, SUMS
from mmplane.observe.colours import STAGE_COLOURS

Trace = dict[str, Any]

COLOURS = (
    "#8c8c8c",
    "#d62728",
    "#ff7f0e",
    "#bcbd22",
    "#9467bd",
    "#8c564b",
    "#17becf",
    "#1f77b4",
    "#2ca02c",
    "#e377c2",
)
UNNAMED = "#7f7f7f"
ROLES = {"frontend": "#1f77b4", "worker": "#2ca02c", "rank": "#ff7f0e", "arena": "#9467bd"}


class Plot(msgspec.Struct, frozen=True):
    """One plot: its title and caption, and Plotly's traces and layout."""

    id: str
    title: str
    caption: str
    data: list[Trace]
    layout: dict[str, Any]


def plots(found: dict[str, Any]) -> list[Plot]:
    """Return all plots of a run that have data. Rates come first, starting with those of the most deliveries."""
    rows = [row for row in found["rows"] if row["result"]]
    compared = [group for group in groups(rows) if not group[1][0]["workload"].startswith("bytes:")]
    made: list[Plot | None] = [
        _throughput(here, title) for title, here in sorted(compared, key=lambda group: -len(group[1]))
    ]
    for title, here in compared:
        made += [_cpu(here, title), _stalls(here, title), _timeline(here, title, "p50")]
        made.append(_timeline([row for row in here if row["requests"] >= P99_MIN], title, "p99"))
    made += [_memory(found["memory"]), _soak(found.get("soak")), _ranks(rows), _bytes(rows), _peers(found.get("peers"))]
    return [plot for plot in made if plot is not None]


def colour(delivery: str) -> str:
    """Return the delivery's colour in every plot."""
    return COLOURS[DELIVERY_NAMES.index(delivery) % len(COLOURS)] if delivery in DELIVERY_NAMES else UNNAMED


def named(row: Row) -> str:
    """Return the delivery, and whether it ran with a cache although it usually does not."""
    return f"{row['delivery']}{' + cache' if row['cache'] and row['delivery'] not in ('arena', 'auto') else ''}"


def _plot(
    kind: str, where: tuple[Any, ...], texts: tuple[str, str], data: list[Trace], axes: tuple[str, str], **layout: Any
) -> Plot:
    axis = {"xaxis": {"title": {"text": axes[0]}, **layout.pop("x", {})}}
    axis["yaxis"] = {"title": {"text": axes[1]}, **layout.pop("y", {})}
    name = re.sub(r"[^\w.]+", "-", " ".join(map(str, (kind, *where))))
    return Plot(name, texts[0], texts[1], data, axis | layout)


def _throughput(rows: Sequence[Row], title: str) -> Plot:
    """Two bar charts that share the deliveries' names: rates and median latencies."""
    ordered = list(reversed(in_order(rows)))  # Plotly starts at the bottom
    names, colours = [named(row) for row in ordered], [colour(row["delivery"]) for row in ordered]
    common = {"type": "bar", "orientation": "h", "y": names, "marker": {"color": colours}}
    common |= {"textposition": "inside", "insidetextanchor": "start"}  # clear of the lines
    rates, medians = [row["qps"] for row in ordered], [row["latency_ms"]["p50"] for row in ordered]
    low, high = ([row["qps_spread"][end] for row in ordered] for end in ("min", "max"))
    spread = {
        "type": "data",
        "symmetric": False,
        "array": [most - rate for most, rate in zip(high, rates, strict=True)],
        "arrayminus": [rate - least for least, rate in zip(low, rates, strict=True)],
        "thickness": 1,
    }
    data = [
        common | {"x": rates, "text": list(map(short, rates)), "name": "requests/s", "error_x": spread},
        common | {"x": medians, "text": list(map(short, medians)), "name": "median latency", "xaxis": "x2"},
    ]
    texts = (
        f"Requests per second and latency: {title}",
        "Left: more is better; the lines show the range of the repetitions. Right: the median; less is better.",
    )
    return _plot(
        "throughput", (title,), texts, data, ("requests per second", ""),
        x={"domain": [0, 0.47]}, xaxis2={"domain": [0.53, 1], "title": {"text": "median latency, ms"}}, y=_NAMES,
        showlegend=False,
    )  # fmt: skip


def _cpu(rows: Sequence[Row], title: str) -> Plot:
    ordered = sorted(rows, key=lambda row: -row["cpu_s_per_request"]["total"])
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": role,
            "y": [named(row) for row in ordered],
            "x": [row["cpu_s_per_request"][role] * 1000 for row in ordered],
            "marker": {"color": ROLES[role]},
        }
        for role in ("frontend", "worker", "rank")
    ]
    texts = (
        f"CPU of one request, by role: {title}",
        (
            "CPU milliseconds as counted by the operating system, summed over all processes of a role; shorter is "
            "better. The digests that ranks computed to check this run are not included."
        ),
    )
    return _plot("cpu", (title,), texts, data, ("CPU ms per request", ""), barmode="stack", y=_NAMES)


def _stalls(rows: Sequence[Row], title: str) -> Plot | None:
    data = []
    for row in rows:
        counts = row["loop_stall_counts"]
        total = sum(count for _, count in counts)
        left = total
        xs, ys = [], []
        for bucket, count in counts:
            xs.append(edge_ms(bucket))
            ys.append(left / total)
            left -= count
        if xs:
            line = {"color": colour(row["delivery"]), "shape": "hv"}
            data.append({"type": "scatter", "mode": "lines", "name": named(row), "x": xs, "y": ys, "line": line})
    if not data:
        return None
    texts = (
        f"Stalls of a rank's loop: {title}",
        "The share of loop turns that anything except the model blocked for longer; further left is better.",
    )
    return _plot("stalls", (title,), texts, data, ("ms", "share of turns"), x=_LOGARITHMIC, y=_LOGARITHMIC)


def _timeline(rows: Sequence[Row], title: str, share: str) -> Plot | None:
    shown = [row for row in rows if len(row["stages_ms"][share]) > 2]
    if not shown:
        return None
    names = [name for row in shown for name in row["stages_ms"][share] if name not in (*SUMS, "request", "latency_ms")]
    ordered = [*(name for name in STAGES if name in names), *sorted(set(names) - set(STAGES))]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": [named(row) for row in shown],
            "x": [row["stages_ms"][share].get(name, 0.0) for row in shown],
            "marker": {"color": STAGE_COLOURS.get(name, UNNAMED)},
        }
        for name in ordered
    ]
    which = "median" if share == "p50" else "99th percentile"
    texts = (
        f"Where the time of one request goes, {which}: {title}",
        "The stages of the request that had this latency. Times of items that are processed in parallel are added up.",
    )
    return _plot(f"timeline-{share}", (title,), texts, data, ("ms", ""), barmode="stack", y=_NAMES)


def _memory(samples: Sequence[Row]) -> Plot | None:
    if len(samples) < 2:
        return None
    start_s = samples[0]["at_s"]
    leased = [sample | {"arena": sample.get("arena_leased", sample["arena"])} for sample in samples]
    ordered = sorted(leased, key=lambda sample: sample["at_s"])
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "stackgroup": "bytes",
            "name": role,
            "x": [sample["at_s"] - start_s for sample in ordered],
            "y": [sample[role] / 1e6 for sample in ordered],
            "text": [f"{sample['workload']}, {sample['delivery']}" for sample in ordered],
            "line": {"color": ROLES[role], "width": 1},
        }
        for role in ROLES
    ]
    texts = (
        "Memory over the run",
        "Proportional set sizes, sampled in warm-ups and between turns; of the arena only the part that requests hold.",
    )
    return _plot("memory", (), texts, data, ("seconds", "MB"))


def _soak(soak: dict[str, Any] | None) -> Plot | None:
    if soak is None or len(soak["samples"]) < 2:
        return None
    samples = soak["samples"]
    minutes = [(sample["at_s"] - samples[0]["at_s"]) / 60 for sample in samples]
    data: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": role,
            "x": minutes,
            "y": [sample[role] / 1e6 for sample in samples],
            "line": {"color": ROLES[role]},
        }
        for role in ("frontend", "worker", "rank")
    ]
    descriptors = [sample["descriptors"] for sample in samples]
    data.append(
        {"type": "scatter", "mode": "lines", "name": "descriptors", "x": minutes, "y": descriptors, "yaxis": "y2",
         "line": {"dash": "dot"}}
    )  # fmt: skip
    texts = ("Soak: memory and descriptors over time", "Level lines are good.")
    second = {"title": {"text": "descriptors"}, "overlaying": "y", "side": "right", "rangemode": "tozero"}
    return _plot("soak", (), texts, data, ("minutes", "MB"), y={"rangemode": "tozero"}, yaxis2=second)


def _ranks(rows: Sequence[Row]) -> Plot | None:
    """CPU per rank over TP, for the workload that was measured with the most numbers of ranks."""
    by_workload: dict[str, list[Row]] = {}
    for row in rows:
        by_workload.setdefault(row["workload"], []).append(row)
    if not by_workload:
        return None
    workload, most = max(by_workload.items(), key=lambda pair: len({row["tp"] for row in pair[1]}))
    if len({row["tp"] for row in most}) < 2:
        return None
    texts = (
        f"CPU of one rank for one request, over the number of ranks: {workload}",
        "A level line means that each further rank costs as much as the first one.",
    )
    data = _lines(most, lambda row: row["tp"], lambda row: row["cpu_s_per_request"]["rank"] * 1000 / row["tp"])
    return _plot("ranks", (workload,), texts, data, ("ranks", "CPU ms per request and rank"), x={"type": "category"})


def _bytes(rows: Sequence[Row]) -> Plot | None:
    sized = [row for row in rows if row["workload"].startswith("bytes:")]
    if len({row["workload"] for row in sized}) < 2:
        return None
    texts = (
        "Time of a rank's loop for an item, over the bytes of its features",
        "Median milliseconds from receiving a record to having arrays; level means that the size does not matter.",
    )
    data = _lines(sized, lambda row: row["features_bytes_per_request"] / 1e6, lambda row: row["deliver_ms"]["p50"])
    return _plot("bytes", (), texts, data, ("MB of features", "ms"), x=_LOGARITHMIC, y=_LOGARITHMIC)


def _lines(rows: Sequence[Row], x: Any, y: Any) -> list[Trace]:
    """Return one line for each delivery."""
    lines = []
    ordered = sorted(rows, key=lambda row: (named(row), x(row)))
    for name, group in groupby(ordered, key=named):
        here = [row for row in group if y(row) is not None]
        if here:
            line = {"color": colour(here[0]["delivery"])}
            xs, ys = [x(row) for row in here], [y(row) for row in here]
            lines.append({"type": "scatter", "mode": "lines+markers", "name": name, "x": xs, "y": ys, "line": line})
    return lines


def _peers(peers: Sequence[Row] | None) -> Plot | None:
    if not peers:
        return None
    names = sorted({row["carrier"] for row in peers})
    data = []
    for name in names:
        here = sorted((row for row in peers if row["carrier"] == name), key=lambda row: row["readers"])
        medians = [row["hand_over_ms"]["median"] for row in here]
        readers = [row["readers"] for row in here]
        data.append({"type": "scatter", "mode": "lines+markers", "name": name, "x": readers, "y": medians})
    texts = (
        f"Handing over {peers[0]['bytes'] / 1e6:.0f} MB of features, compared with other systems",
        "Median milliseconds until all readers have them.",
    )
    return _plot("peers", (), texts, data, ("readers", "ms"), x={"type": "category"}, y=_LOGARITHMIC)


_NAMES = {"automargin": True}
_LOGARITHMIC = {"type": "log", "dtick": "D2"}
"""Labels only at 1, 2 and 5, because labels at all digits overlap."""
