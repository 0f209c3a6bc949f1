"""The columns of a table of rows, and the cells of a row. Pure.

A column without a figure in any row is left out, so runs from before a figure existed can still be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from mmplane.bench.judge.groups import Row
from mmplane.config import DELIVERY_NAMES
from mmplane.delivery.ingress import AUTO, ingress_of

P99_MIN = 200
"""With fewer requests the 99th percentile is their maximum, and is labelled `max`."""


class Column(msgspec.Struct, frozen=True):
    """A heading, and a function that returns the cell of a row, or None if the row has no such figure."""

    name: str
    cell: Callable[[Row], str | None]


def table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Return the headings, and the cells of each row."""
    results = [row for row in rows if row["result"]]
    shown = [column for column in COLUMNS if any(column.cell(row) is not None for row in results)] or COLUMNS[:2]
    return tuple(column.name for column in shown), [cells(row, shown) for row in rows]


def cells(row: Row, shown: Sequence[Column]) -> list[str]:
    """Return one row of the table."""
    if not row["result"]:
        codes = ", ".join(f"{count} x {code}" for code, count in row["error_codes"].items())
        why = codes or "; ".join(row["wrong"][:1]) or "no answer"
        return [_name(row), f"no result: {why}", *([""] * (len(shown) - 2))]
    return [column.cell(row) or "-" for column in shown]


def circumstances(rows: Sequence[Row]) -> list[str]:
    """Return notes that apply to all rows of a table: what the ranks computed, and the sizes of pools."""
    notes = dict.fromkeys(row["runner_note"] for row in rows if row.get("runner_note"))
    pools = dict.fromkeys(tuple(row["pools"].items()) for row in rows if row.get("pools"))
    return [*notes, *(_pools(dict(each)) for each in pools)]


def _pools(sizes: dict[str, int]) -> str:
    return (
        f"items made at once: {sizes['workers']} by workers, or by threads of the front end (eager); "
        f"{sizes['leader_threads']} on rank 0 (leader-async); {sizes['delivery_threads']} on each rank (delayed-async)"
    )


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Sort rows in the order of the analyses, so that a delivery has the same place in every table and chart."""

    def order(row: Row) -> tuple[int, bool]:
        name = row["delivery"]
        return (DELIVERY_NAMES.index(name) if name in DELIVERY_NAMES else len(DELIVERY_NAMES), row["cache"])

    return sorted(rows, key=order)


def short(value: float | None) -> str:
    """Format a figure with three significant digits."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _name(row: Row) -> str:
    """Return the delivery with its unusual settings."""
    ingress = row.get("ingress")
    usual = ingress is None or ingress == ingress_of(row["delivery"], AUTO)
    return f"{row['delivery']}{', cache on' if row['cache'] else ''}{'' if usual else f', ingress {ingress}'}"


def _tail(row: Row) -> str:
    """Return the 99th percentile, or the maximum if there are too few requests."""
    latency = row["latency_ms"]
    return short(latency["p99"]) if row["requests"] >= P99_MIN else f"max {short(latency.get('max', latency['p99']))}"


def _rates(row: Row) -> str | None:
    """Return the range over several repetitions."""
    if row["repetitions"] == 1:
        return None
    return f"{short(row['qps_spread']['min'])} to {short(row['qps_spread']['max'])}"


def _cpu(role: str) -> Callable[[Row], str | None]:
    def cell(row: Row) -> str | None:
        seconds = row["cpu_s_per_request"].get(role)
        return None if seconds is None else short(seconds * 1000)

    return cell


def _seconds_as_ms(name: str) -> Callable[[Row], str | None]:
    def cell(row: Row) -> str | None:
        return short(row[name] * 1000) if row.get(name) else None

    return cell


def _figure(name: str) -> Callable[[Row], str | None]:
    """Return a column's cell for a figure that is also shown if it is zero."""

    def cell(row: Row) -> str | None:
        return None if row.get(name) is None else short(row[name])

    return cell


def _positive(name: str) -> Callable[[Row], str | None]:
    def cell(row: Row) -> str | None:
        return short(row[name]) if row.get(name) else None

    return cell


def _busiest(row: Row) -> str | None:
    thread = row.get("busiest_thread")
    return f"{thread['role']} {thread['share'] * 100:.0f} %" if thread else None


def _peak(row: Row) -> str | None:
    """Return the peak, with only the part of the arena that requests hold; None if it was not measured."""
    peak = row["peak_bytes"]
    return short(peak.get("total_leased", peak["total"]) / 1e6) if peak["total"] else None


def _materialise(row: Row) -> str | None:
    """Return the median of each rank that made features itself, rank 0 first."""
    medians = [each["p50"] for each in row.get("materialise_ms_by_rank", {}).values()]
    return " / ".join(map(short, medians)) if any(medians) else None


def _batch(row: Row) -> str | None:
    size = row.get("batch_size")
    return short(size["mean"]) if size and size.get("mean") else None


COLUMNS = (
    Column("delivery", _name),
    Column("req/s", lambda row: short(row["qps"])),
    Column("min to max", _rates),
    Column("mean ms", lambda row: short(row["latency_ms"]["mean"])),
    Column("p99 ms", _tail),
    Column("refused", _positive("refused")),
    Column("CPU ms", _cpu("total")),
    Column("front end", _cpu("frontend")),
    Column("parser", _cpu("parser")),
    Column("workers", _cpu("worker")),
    Column("ranks", _cpu("rank")),
    Column("simulated ms", _seconds_as_ms("simulated_cpu_s_per_request")),
    Column("busiest thread", _busiest),
    Column("stall p99 ms", lambda row: short(row["loop_stall_ms"]["p99"])),
    Column("hashes", _figure("feature_hashes")),
    Column("hash ms", _seconds_as_ms("feature_hash_cpu_s_per_request")),
    Column("collectives", _figure("collectives")),
    Column("batch", _batch),
    Column("pickle ms", _positive("pickle_ms_per_request")),
    Column("leader wait ms", _positive("leader_wait_ms_per_request")),
    Column("transfer ms", _positive("transfer_ms_per_request")),
    Column("ranks' materialise ms", _materialise),
    Column("key repeats", _positive("key_hit_rate")),
    Column("hit rate", _positive("cache_hit_rate")),
    Column("materialised", lambda row: str(row["materialisations"])),
    Column("peak MB", _peak),
)
