"""The predictions of the five analyses, as a table. Pure.

Every line of the analyses that carries a number is here once. A prediction is a figure over one row, or over two rows
of one workload on one number of ranks, and the range of it that agrees. Where the measurement disagrees, a sentence
made of the rows' own figures says why.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mmplane.bench.report.groups import Row

INFINITE = float("inf")


class Prediction(msgspec.Struct, frozen=True):
    """One line of an analysis: `figure(row of delivery, row of against)` should lie between `low` and `high`."""

    analysis: str
    what: str
    predicted: str
    delivery: str
    against: str
    figure: Callable[[Row, Row], float | None]
    shown: str
    low: float
    high: float
    why: Callable[[Row, Row], str]
    concurrency: int | None = None
    """Only rows with this much under way, where the analysis says so."""


def _cpu(row: Row, other: Row) -> float:
    return float(row["cpu_s_per_request"]["total"] / other["cpu_s_per_request"]["total"])


def _latency(row: Row, other: Row) -> float:
    return float(row["latency_ms"]["mean"] / other["latency_ms"]["mean"])


def _rate(row: Row, other: Row) -> float:
    return float(row["qps"] / other["qps"])


def _broadcasting(row: Row, other: Row) -> float | None:
    mine, theirs = (each["broadcast_total_ms_per_request"] for each in (row, other))
    return float(mine / theirs) if theirs else None


def _cpu_use(row: Row, _: Row) -> float:
    return float(row["cpu_used"])


def _p99(row: Row, _: Row) -> float:
    return float(row["latency_ms"]["p99"])


def _qps(row: Row, _: Row) -> float:
    return float(row["qps"])


def _cpu_why(row: Row, other: Row) -> str:
    mine, theirs = row["cpu_s_per_request"], other["cpu_s_per_request"]
    role = max(("frontend", "worker", "rank"), key=lambda role: abs(mine[role] - theirs[role]))
    return (
        f"One request costs {_ms(mine['total'])} of CPU against {_ms(theirs['total'])}, most of the difference in the "
        f"{role} processes, {_ms(mine[role])} against {_ms(theirs[role])}, and decoding is cheaper than was assumed "
        f"({row['materialise_ms']['p50'] or 0:.0f} ms), so that moving features counts."
    )


def _latency_why(row: Row, other: Row) -> str:
    return (
        f"With {row['concurrency'] or 'Poisson'} requests under way latency is mostly waiting, so it follows the rate: "
        f"{row['qps']:.1f} against {other['qps']:.1f} req/s, with {_total(row)} against {_total(other)} of CPU each."
    )


def _rate_why(row: Row, other: Row) -> str:
    mine, theirs = row["loop_stall_ms"]["p99"], other["loop_stall_ms"]["p99"]
    return (
        f"The rate is bounded by CPU per request ({_total(row)} against {_total(other)}) and by how long the ranks' "
        f"loops stand still (p99 {mine:.1f} against {theirs:.1f} ms), and these do not differ as was assumed."
    )


def _broadcasting_why(row: Row, other: Row) -> str:
    return (
        "The bytes of a collective cost more than the number of collectives: "
        f"{row['broadcast_total_ms_per_request']:.1f} against "
        f"{other['broadcast_total_ms_per_request']:.1f} ms for each "
        "request, all ranks together."
    )


def _use_why(row: Row, _: Row) -> str:
    return (
        f"With {row['concurrency'] or 'Poisson'} requests under way the cores are busy with whatever is left to do "
        f"({_roles(row['cpu_s_per_request'])} for each request)."
    )


def _absolute_why(row: Row, _: Row) -> str:
    return (
        f"The figure was guessed for another machine: here {row['qps']:.1f} req/s at {_total(row)} of CPU each, "
        f"with {row['concurrency'] or 'Poisson'} under way."
    )


def _total(row: Row) -> str:
    return _ms(row["cpu_s_per_request"]["total"])


def _roles(cpu_s: dict[str, float]) -> str:
    return ", ".join(f"{role} {_ms(cpu_s[role])}" for role in ("frontend", "worker", "rank"))


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def _line(
    analysis: str,
    what: str,
    predicted: str,
    deliveries: tuple[str, str],
    measured: tuple[Callable[[Row, Row], float | None], str],
    within: tuple[float, float],
    why: Callable[[Row, Row], str],
    concurrency: int | None = None,
) -> Prediction:
    return Prediction(analysis, what, predicted, *deliveries, *measured, *within, why, concurrency)


PREDICTIONS = (
    _line(
        "incident", "CPU of the commit against the original", "-75 % at TP=4",
        ("leader", "original"), (_cpu, "change"), (0.2, 0.3), _cpu_why,
    ),
    _line(
        "incident", "throughput of the commit against the original at high concurrency", "it collapses",
        ("leader", "original"), (_rate, "ratio"), (0.0, 0.8), _rate_why,
    ),
    _line(
        "incident", "CPU use of the commit", "99.9 %",
        ("leader", "leader"), (_cpu_use, "share"), (0.95, 1.01), _use_why,
    ),
    _line(
        "A1", "CPU, built in the tokenizer against the original", "80 -> 20 ms: -75 %",
        ("eager", "original"), (_cpu, "change"), (0.2, 0.3), _cpu_why,
    ),
    _line(
        "A1", "latency against the commit", "100 -> 35 ms: -65 %",
        ("eager", "leader"), (_latency, "change"), (0.28, 0.42), _latency_why,
    ),
    _line(
        "A1", "latency against the original", "+17 %",
        ("eager", "original"), (_latency, "change"), (1.1, 1.25), _latency_why,
    ),
    _line(
        "B1", "CPU, eager against the original", "2,000 -> 500 ms",
        ("eager", "original"), (_cpu, "ratio"), (0.2, 0.3), _cpu_why,
    ),
    _line(
        "B1", "latency of the commit against the original", "500 -> 750 ms: 1.5 x",
        ("leader", "original"), (_latency, "ratio"), (1.3, 1.7), _latency_why,
    ),
    _line(
        "B1", "latency of eager against the original", "500 -> 650 ms: 1.3 x",
        ("eager", "original"), (_latency, "ratio"), (1.15, 1.45), _latency_why,
    ),
    _line(
        "B1", "10 at once: the commit's rate against the original's", "2 -> 1.3 req/s: 0.65 x",
        ("leader", "original"), (_rate, "ratio"), (0.55, 0.75), _rate_why, 10,
    ),
    _line(
        "B1", "10 at once: eager's rate against the original's", "2 -> 1.7 req/s: 0.85 x",
        ("eager", "original"), (_rate, "ratio"), (0.75, 0.95), _rate_why, 10,
    ),
    _line(
        "B1", "CPU use of eager", "below 70 %",
        ("eager", "eager"), (_cpu_use, "share"), (0.0, 0.7), _use_why,
    ),
    _line(
        "B4", "latency through shared memory against the original", "500 -> 520 ms: 1.04 x",
        ("arena", "original"), (_latency, "ratio"), (0.95, 1.15), _latency_why,
    ),
    _line(
        "C1", "rate of delayed materialisation against the commit", "2 to 3 x",
        ("delayed", "leader"), (_rate, "ratio"), (2.0, 3.0), _rate_why,
    ),
    _line(
        "C2", "rate with an asynchronous broadcast against the commit", "a further 1.5 to 2 x",
        ("leader-async", "leader"), (_rate, "ratio"), (1.5, 2.0), _rate_why,
    ),
    _line(
        "C2", "rate of delayed and asynchronous against delayed", "a further 1.5 to 2 x",
        ("delayed-async", "delayed"), (_rate, "ratio"), (1.5, 2.0), _rate_why,
    ),
    _line(
        "C3", "rate of both together against the commit", "3 to 5 x",
        ("delayed-async", "leader"), (_rate, "ratio"), (3.0, 5.0), _rate_why,
    ),
    _line(
        "D1", "time in broadcasts, batched against one by one", "572 -> 210 ms for ten: -63 %",
        ("leader-batch", "leader"), (_broadcasting, "change"), (0.3, 0.44), _broadcasting_why,
    ),
    _line(
        "D1", "rate, batches of 10", "+6 %",
        ("leader-batch", "leader"), (_rate, "change"), (1.03, 1.09), _rate_why, 10,
    ),
    _line(
        "D1", "rate, batches of 50", "+10 %",
        ("leader-batch", "leader"), (_rate, "change"), (1.05, 1.15), _rate_why, 50,
    ),
    _line(
        "D1", "CPU use", "below 60 %",
        ("leader-batch", "leader-batch"), (_cpu_use, "share"), (0.0, 0.6), _use_why,
    ),
    _line(
        "D1", "p99 latency", "below 600 ms",
        ("leader-batch", "leader-batch"), (_p99, "ms"), (0.0, 600.0), _absolute_why,
    ),
    _line(
        "D1", "rate", "above 1.8 req/s",
        ("leader-batch", "leader-batch"), (_qps, "rate"), (1.8, INFINITE), _absolute_why,
    ),
    _line(
        "D1", "rate of the commit", "1.5 req/s",
        ("leader", "leader"), (_qps, "rate"), (1.3, 1.7), _absolute_why,
    ),
)  # fmt: skip
