"""The predictions of `mmplane.bench.report.analyses`, judged by a run's JSON. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from mmplane.bench.report.analyses import PREDICTIONS, Prediction
from mmplane.bench.report.groups import Row, place
from mmplane.bench.report.joined import Found

PREFERRED = (("video-2mb", 4), ("photo", 4), ("video-2mb", 2), ("photo", 2))
"""Workload and ranks that the incident had, and then what is nearest."""


class Verdict(msgspec.Struct, frozen=True):
    """One line of the table. `agrees` is None of what was not measured."""

    analysis: str
    what: str
    predicted: str
    measured: str
    agrees: bool | None
    why: str


def judged(found: Found) -> list[Verdict]:
    """Every prediction, judged by a run's JSON."""
    rows = [row for row in found["rows"] if row["result"]]
    lines = [_verdict(prediction, rows, found) for prediction in PREDICTIONS]
    return [*lines, *_pickled(found.get("pickled")), _flat(found.get("soak"))]


def pair(rows: Sequence[Row], delivery: str, against: str, concurrency: int | None = None) -> tuple[Row, Row] | None:
    """Rows of two deliveries from one workload, ranks and pace; the incident's own first, baselines without cache."""

    def rank(row: Row) -> tuple[int, bool]:
        where = (row["workload"], row["tp"])
        return (PREFERRED.index(where) if where in PREFERRED else len(PREFERRED), row["cache"])

    for row in sorted((row for row in rows if row["delivery"] == delivery), key=rank):
        if concurrency is not None and row["concurrency"] != concurrency:
            continue
        same = [other for other in rows if other["delivery"] == against and place(other) == place(row)]
        if same:
            return row, min(same, key=rank)
    return None


def _verdict(prediction: Prediction, rows: Sequence[Row], found: Found) -> Verdict:
    head = (prediction.analysis, prediction.what, prediction.predicted)
    both = pair(rows, prediction.delivery, prediction.against, prediction.concurrency)
    figure = prediction.figure(*both) if both else None
    if both is None or figure is None:
        return Verdict(*head, "not measured in this run", None, "")
    if prediction.shown == "share":
        figure /= found["environment"]["cores"]
    agrees = prediction.low <= figure <= prediction.high
    where = f"{both[0]['workload']}, TP={both[0]['tp']}"
    return Verdict(
        *head, f"{_SHOWN[prediction.shown](figure)} ({where})", agrees, "" if agrees else prediction.why(*both)
    )


_SHOWN: dict[str, Callable[[float], str]] = {
    "ratio": lambda figure: f"{figure:.2f} x",
    "change": lambda figure: f"{(figure - 1) * 100:+.0f} %",
    "share": lambda figure: f"{figure * 100:.0f} % of the cores",
    "ms": lambda figure: f"{figure:.0f} ms",
    "rate": lambda figure: f"{figure:.2f} req/s",
}


def _pickled(pickled: dict[str, Any] | None) -> list[Verdict]:
    """Analysis A4 and the serialisation that C1 saves."""
    lines = (
        ("incident", "pickling a materialised object", "can pass 500 ms"),
        ("C1", "serialising the raw dict instead of the finished object", "500 -> 50 ms: a tenth"),
    )
    if pickled is None:
        return [Verdict(*line, "not measured in this run", None, "") for line in lines]
    raw, finished = pickled["raw"], pickled["finished"]
    raw_ms, finished_ms = (each["dumps_ms"] + each["loads_ms"] for each in (raw, finished))
    both = f"{finished_ms:.1f} ms for {finished['bytes'] / 1e6:.1f} MB"
    ratio = raw_ms / finished_ms
    return [
        Verdict(
            *lines[0], both, finished_ms > 500,
            "" if finished_ms > 500 else
            f"Arrays pickle at the speed of memory: {finished['bytes'] / 1e6 / finished_ms:.1f} GB/s there and back.",
        ),
        Verdict(
            *lines[1], f"{both} -> {raw_ms:.2f} ms for {raw['bytes'] / 1e6:.2f} MB: {ratio:.3f} x",
            0.05 <= ratio <= 0.2,
            "" if 0.05 <= ratio <= 0.2 else
            f"Both are copies, so their ratio is that of the bytes, {raw['bytes'] / finished['bytes']:.3f}.",
        ),
    ]  # fmt: skip


def _flat(soak: dict[str, Any] | None) -> Verdict:
    line = ("D1", "memory over time", "no leak")
    if soak is None:
        return Verdict(*line, "not measured in this run", None, "")
    if soak["growth_share"] is None:
        return Verdict(*line, "the soak was too short to say", None, "")
    text = f"{soak['growth_share'] * 100:+.1f} % over {soak['seconds'] / 60:.0f} minutes"
    return Verdict(*line, text, bool(soak["flat"]), "" if soak["flat"] else "See the plot of memory over time.")
