"""Measures for predictions: a figure over one row, or over two comparable rows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from mmplane.bench.judge.evidence import CLIP, Evidence, where
from mmplane.bench.judge.groups import Row


class Measured(msgspec.Struct, frozen=True):
    """A figure. `text` shows it with its place, and `figures` describes the figures that it was computed from.

    `at` is the number of concurrent requests. `rows` are the rows that it was computed from.
    """

    value: float
    text: str
    figures: str
    at: int | None = None
    rows: tuple[Row, ...] = ()


Measure = Callable[[Evidence], Measured | None]
Of = Callable[[Row], float | None]

ONE, TEN, FIFTY, MANY = (1,), (10,), (50,), (100, 96, 50)
"""Numbers of concurrent requests in the analyses; the first one is preferred."""


def cpu_ms(row: Row) -> float:
    """CPU time of one request in all processes, including simulated time."""
    return float(row["cpu_s_per_request"]["total"] + (row.get("simulated_cpu_s_per_request") or 0.0)) * 1000


def latency_ms(row: Row) -> float:
    """Mean latency."""
    return float(row["latency_ms"]["mean"])


def rate(row: Row) -> float:
    """Requests per second."""
    return float(row["qps"])


def stall_ms(row: Row) -> float | None:
    """Stall of a rank's loop, 99th percentile."""
    return row["loop_stall_ms"]["p99"]  # type: ignore[no-any-return]


def hash_ms(row: Row) -> float | None:
    """CPU time for hashing features, in all processes."""
    seconds = row.get("feature_hash_cpu_s_per_request")
    return None if seconds is None else float(seconds) * 1000


def broadcast_ms(row: Row) -> float | None:
    """Time for pickling and sending, without the wait for the leader's decoding if the run measured it separately."""
    if row.get("pickle_ms_per_request") is None:
        return float(row["broadcast_total_ms_per_request"]) or None
    return float(row["pickle_ms_per_request"] + row["transfer_ms_per_request"]) or None


def busiest(row: Row) -> float | None:
    """The share of one core that the busiest thread used, including simulated decoding if it runs on the loop."""
    if row.get("busiest_thread") is None:
        return None
    share = float(row["busiest_thread"]["share"])
    makers = {"original": row["tp"], "delayed": row["tp"], "leader": 1, "leader-batch": 1}.get(row["delivery"])
    simulated_s = row.get("simulated_cpu_s_per_request") or 0.0
    return share + (row["qps"] * simulated_s / makers if makers else 0.0)


def sent_bytes(row: Row) -> float | None:
    """Bytes of features or media sent to the ranks for one request."""
    return row.get("stored_bytes_per_request")


def ratio(
    of: Of, delivery: str, against: str, *, at: Sequence[int], unit: str, workloads: Sequence[str] = CLIP
) -> Measure:
    """Measure the figure `of` for one delivery as a multiple of the same figure for another."""

    def measure(here: Evidence) -> Measured | None:
        both = here.both(delivery, against, at, workloads)
        figures = [of(row) for row in both] if both else []
        if both is None or None in figures or not figures[1]:
            return None
        mine, theirs = figures
        assert mine is not None
        assert theirs is not None
        value = mine / theirs
        said = f"{_named(both[0])} {digits(mine)} {unit}, {_named(both[1])} {digits(theirs)}"
        return Measured(value, f"{digits(value)} x ({where(both[0])})", said, both[0]["concurrency"], both)

    return measure


def share(of: Of, delivery: str, *, at: Sequence[int], what: str) -> Measure:
    """Measure a share, shown in percent."""

    def measure(here: Evidence) -> Measured | None:
        row = here.row(delivery, at)
        value = of(row) if row else None
        if row is None or value is None:
            return None
        said = f"{_named(row)} {value * 100:.0f} % {what}"
        if of is busiest:
            said += f" (a thread of the {row['busiest_thread']['role']})"
        return Measured(value, f"{value * 100:.0f} % ({where(row)})", said, row["concurrency"], (row,))

    return measure


def amount(of: Of, delivery: str, *, at: Sequence[int], unit: str, workloads: Sequence[str] = CLIP) -> Measure:
    """Measure a plain figure."""

    def measure(here: Evidence) -> Measured | None:
        row = here.row(delivery, at, workloads)
        value = of(row) if row else None
        if row is None or value is None:
            return None
        text = f"{digits(value)} {unit}".strip()
        return Measured(value, f"{text} ({where(row)})", f"{_named(row)} {text}", row["concurrency"], (row,))

    return measure


def pickled(form: str, against: str | None, of: Callable[[dict[str, Any]], float], unit: str, item: str) -> Measure:
    """Measure a pickled form, or the ratio of two forms. The figure is shown in the `incident` column."""

    def measure(here: Evidence) -> Measured | None:
        found = here.found.get("pickled") or {}
        forms = found.get(item, found if "raw" in found and item == "image" else None)
        if forms is None or here.setting != "incident":
            return None
        mine = of(forms[form])
        size = f"{forms[form]['bytes'] / 1e6:.2f} MB"
        if against is None:
            said = f"the {form} form takes {digits(mine)} {unit}"
            return Measured(mine, f"{digits(mine)} {unit} ({size})", said, rows=(found,))
        other = of(forms[against])
        said = f"{form} {digits(mine)} {unit}, {against} {digits(other)}"
        return Measured(mine / other, f"{digits(mine / other)} x ({size})", said, rows=(found,))

    return measure


def there_and_back(form: dict[str, Any]) -> float:
    """Milliseconds to pickle and unpickle."""
    return float(form["dumps_ms"] + form["loads_ms"])


def megabytes(form: dict[str, Any]) -> float:
    """Size of a pickled form."""
    return float(form["bytes"]) / 1e6


def growth(here: Evidence) -> Measured | None:
    """Growth of memory over the soak, in whichever setting it ran."""
    soak = here.found.get("soak")
    if not soak or soak["growth_share"] is None or here.setting != soak.get("setting", "cores"):
        return None
    value = float(soak["growth_share"])
    said = f"{value * 100:+.1f} % over {soak['seconds'] / 60:.0f} minutes of {soak.get('delivery', 'arena')}"
    return Measured(value, said, said, rows=(soak,))


def tested(count: int, unit: str) -> Measure:
    """A number that a test counts, the same in all settings; the prediction names the test."""

    def measure(_: Evidence) -> Measured:
        return Measured(count, f"{count} {unit}", f"a test counts {count} {unit}")

    return measure


def digits(value: float) -> str:
    """Format a figure with three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _named(row: Row) -> str:
    """Return the delivery's name, with the mean size of its batches."""
    size = (row.get("batch_size") or {}).get("mean")
    return f"`{row['delivery']}`" + (f" ({digits(size)} in a batch)" if size and size > 1 else "")


def p99_ms(row: Row) -> float:
    """The 99th percentile of latency; with fewer than 200 requests, the maximum."""
    return float(row["latency_ms"]["p99"])


def collectives(row: Row) -> float | None:
    """Collectives per request; requests of a batch share theirs."""
    return row.get("collectives")


def uneven(row: Row) -> float | None:
    """The median time to materialise of the slowest rank, as a multiple of the quickest's."""
    medians = [each["p50"] for each in row.get("materialise_ms_by_rank", {}).values() if each["p50"]]
    return max(medians) / min(medians) if medians else None


def entries(row: Row) -> float | None:
    """The most that D1's cache held."""
    return row.get("cache_entries")


def found(row: Row) -> float | None:
    """Share of results that were in D1's cache when their request looked for them."""
    return row.get("result_hit_rate")


def repeats(delivery: str, share_percent: int) -> Measure:
    """CPU with a cache on every rank as a multiple of CPU without, if `share_percent` of the requests are repeats."""

    def measure(here: Evidence) -> Measured | None:
        rows = [row for row in here.rows if (row["workload"], row["delivery"]) == (f"repeat:{share_percent}", delivery)]
        by_cache = {row["cache"]: row for row in rows}
        if len(by_cache) < 2:
            return None
        on_ms, off_ms = cpu_ms(by_cache[True]), cpu_ms(by_cache[False])
        said = f"`{delivery}` {digits(on_ms)} ms of CPU with its cache, {digits(off_ms)} without"
        return Measured(on_ms / off_ms, f"{digits(on_ms / off_ms)} x ({where(rows[0])})", said, rows=tuple(rows))

    return measure


def scaling(delivery: str) -> Measure:
    """The rate with ten concurrent requests as a multiple of the rate with one."""

    def measure(here: Evidence) -> Measured | None:
        ten = here.row(delivery, TEN)
        alone = next((row for row in here.rows if ten and _same_but_pace(row, ten) and row["concurrency"] == 1), None)
        if ten is None or alone is None:
            return None
        value = ten["qps"] / alone["qps"]
        said = (
            f"`{delivery}` {digits(alone['qps'])} req/s one at a time, {digits(ten['qps'])} with {ten['concurrency']}"
        )
        return Measured(value, f"{digits(value)} x ({where(ten)})", said, ten["concurrency"], (ten, alone))

    return measure


def p99_over_mean(delivery: str, against: str) -> Measure:
    """A delivery's p99 with ten concurrent requests as a multiple of another delivery's mean for a single request."""

    def measure(here: Evidence) -> Measured | None:
        ten = here.row(delivery, TEN)
        alone = here.row(against, ONE)
        if ten is None or alone is None or alone["workload"] != ten["workload"]:
            return None
        value = ten["latency_ms"]["p99"] / alone["latency_ms"]["mean"]
        said = f"`{delivery}` {digits(ten['latency_ms']['p99'])} ms, `{against}` {digits(alone['latency_ms']['mean'])}"
        said += f" with {alone['concurrency']} at once"
        return Measured(value, f"{digits(value)} x ({where(ten)})", said, ten["concurrency"], (ten, alone))

    return measure


def _same_but_pace(row: Row, other: Row) -> bool:
    names = ("delivery", "workload", "tp", "runner", "cache")
    return all(row[name] == other[name] for name in names)
