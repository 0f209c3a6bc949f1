"""A run summarised in sentences: which delivery is fastest, by how much, and why. Pure."""

from __future__ import annotations

from typing import Any

from mmplane.bench.judge.groups import Row, groups

BASELINES = ("original", "leader")


def answers(found: dict[str, Any]) -> list[str]:
    """Return a short text for each workload, number of ranks and pace with more than one result."""
    rows = [row for row in found["rows"] if row["result"] and not row["workload"].startswith("bytes:")]
    texts = [_answer(title, list(group)) for title, group in groups(rows)]
    failed = sorted({f"{row['delivery']} on {row['workload']}" for row in found["rows"] if not row["result"]})
    if failed:
        texts.append(f"No result, because of errors: {', '.join(failed)}.")
    return [text for text in texts if text]


def _answer(title: str, rows: list[Row]) -> str:
    if len(rows) < 2:
        return ""
    best = max(rows, key=lambda row: row["qps"])
    text = f"{title}: {best['delivery']} is fastest with {_short(best['qps'])} req/s"
    others = [row for name in BASELINES for row in rows if row["delivery"] == name and row is not best][:2]
    if others:
        against = " and ".join(f"{best['qps'] / row['qps']:.1f} times {row['delivery']}" for row in others)
        text += f", which is {against}"
    second = max((row for row in rows if row is not best), key=lambda row: row["qps"])
    overlap = second["qps_spread"]["max"] >= best["qps_spread"]["min"]
    apart = ", which is within noise (their repetitions overlap)" if overlap else ""
    text += f". Next is {second['delivery']} with {_short(second['qps'])}{apart}. "
    return text + _why(best, min(rows, key=lambda row: row["qps"]))


def _why(best: Row, worst: Row) -> str:
    theirs = worst["cpu_s_per_request"]
    most = max(("frontend", "worker", "rank"), key=lambda role: theirs[role])
    stall_ms, worst_stall_ms = (_short(row["loop_stall_ms"]["p99"] or 0) for row in (best, worst))
    return (
        f"A request costs {_cpu(best)} with {best['delivery']}. With {worst['delivery']}, the slowest, it costs "
        f"{_cpu(worst)}, including {_short(theirs[most] * 1000)} ms of CPU in {most} processes. A rank's loop stalls "
        f"for {stall_ms} ms (p99) with {best['delivery']} and for {worst_stall_ms} ms with {worst['delivery']}."
    )


def _cpu(row: Row) -> str:
    simulated_ms = (row.get("simulated_cpu_s_per_request") or 0.0) * 1000
    said = f"{_short(row['cpu_s_per_request']['total'] * 1000)} ms of CPU"
    return f"{said} and {_short(simulated_ms)} ms of simulated decoding" if simulated_ms else said


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
