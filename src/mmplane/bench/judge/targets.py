"""The targets of `arena`, compared with what was measured. Pure.

Each line compares rows of one group, that is, of one run. A line whose rows are missing was not measured. A target that
is not met stays in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from mmplane.bench.judge.evidence import quiet
from mmplane.bench.judge.groups import Row, place
from mmplane.bench.judge.joined import Found

MEASURED = (("photo", 96), ("video-2mb", 10))
"""Workloads and numbers of concurrent requests of the targets, with four ranks."""
TP = 4
FLAT = 1.5
"""A cost counts as flat if it grows by at most this factor."""


class Judged(msgspec.Struct, frozen=True):
    """One line of the table. `met` is None if it was not measured."""

    what: str
    wanted: str
    measured: str
    met: bool | None
    why: str = ""
    """If the target is not met: where the time goes."""


def targets(found: Found) -> list[Judged]:
    """Judge every target by a run's JSON."""
    rows = [row for row in found["rows"] if row["result"] and quiet(row)]
    return [
        *_against(rows),
        *_beside_the_best(rows),
        _decoding(rows, found),
        _mixed(rows),
        *_flat(rows),
        *_memory(rows),
    ]


def _against(rows: Sequence[Row]) -> Iterator[Judged]:
    photo, _ = MEASURED[0]
    wanted: list[tuple[str, str, str, Callable[[Row], float], float, bool]] = [
        (photo, "throughput", "leader", lambda row: row["qps"], 5.0, True),
        *((name, "CPU of a request", "original", lambda row: row["cpu_s_per_request"]["total"], 0.3, False)
          for name, _ in MEASURED),
        *((name, "loop stall, p99", "leader", lambda row: row["loop_stall_ms"]["p99"] or 0.0, 1 / 50, False)
          for name, _ in MEASURED),
    ]  # fmt: skip
    for workload, what, other, figure_of, limit, least in wanted:
        ours, theirs = _pair(rows, workload, other)
        text = f"{what} against `{other}`, {workload} at TP={TP}"
        asked = f"at {'least' if least else 'most'} {limit:.2g} x"
        if ours is None or theirs is None:
            yield _unknown(text, asked)
        else:
            mine, other_figure = figure_of(ours), figure_of(theirs)
            ratio = mine / other_figure if other_figure else float("inf")
            met = ratio >= limit if least else ratio <= limit
            shown = f"{ratio:.2g} x ({_digits(mine)} : {_digits(other_figure)})"
            yield Judged(text, asked, shown, met, "" if met else _spent(ours))


def _beside_the_best(rows: Sequence[Row]) -> Iterator[Judged]:
    """Compare with the best baseline, with as many cores as ranks and one request at a time."""
    figures: list[tuple[str, Callable[[Row], float], float]] = [
        ("CPU of a request", lambda row: row["cpu_s_per_request"]["total"], 0.65),
        ("mean latency", lambda row: row["latency_ms"]["mean"], 1.05),
    ]
    for workload, _ in MEASURED:
        here = [
            row for row in rows
            if (row.get("setting"), row["workload"], row["concurrency"]) == ("cores", workload, 1)
        ]  # fmt: skip
        ours = next((row for row in here if row["delivery"] == "arena"), None)
        baselines = [row for row in here if row["delivery"] not in ("arena", "auto")]
        for what, figure_of, limit in figures:
            text, asked = f"{what} against the best baseline, {workload} at TP = cores", f"at most {limit:.2g} x"
            if ours is None or not baselines:
                yield _unknown(text, asked)
                continue
            best = min(baselines, key=figure_of)
            ratio = figure_of(ours) / figure_of(best)
            shown = f"{ratio:.2g} x ({_digits(figure_of(ours))} : {_digits(figure_of(best))} of {best['delivery']})"
            yield Judged(text, asked, shown, ratio <= limit, "" if ratio <= limit else _spent(ours))


def _decoding(rows: Sequence[Row], found: Found) -> Judged:
    workload, _ = MEASURED[1]
    what, asked = f"throughput of what decoding allows, {workload} at TP={TP}", "at least 90 %"
    ours, _ = _pair(rows, workload, "leader")
    if ours is None:
        return _unknown(what, asked)
    place = workload, ours.get("at")  # another run may be of another CPU
    decoding = next((each for each in found.get("decoding", ()) if (each["workload"], each.get("at")) == place), None)
    if decoding is None:
        return _unknown(what, asked)
    most = found["environment"]["cores"] / (decoding["decode_cpu_ms"] / 1000)
    share = ours["qps"] / most
    text = f"{share * 100:.0f} %: {_digits(ours['qps'])} of {_digits(most)} clips per second"
    text += f" ({_digits(decoding['decode_cpu_ms'])} ms to decode one while all cores decode)"
    return Judged(what, asked, text, share >= 0.9, "" if share >= 0.9 else _spent(ours))


def _mixed(rows: Sequence[Row]) -> Judged:
    what, asked = "p99 time between tokens of other requests, with and without photographs arriving", "within 10 %"
    of_arena = [row for row in rows if row["delivery"] == "arena" and row["runner"].startswith("sim:")]
    for row in (row for row in of_arena if row["workload"] == "mixed"):
        for control in of_arena:
            if (control["workload"], control["tp"], control["runner"]) != ("text", row["tp"], row["runner"]):
                continue
            with_ms, without_ms = row["inter_token_ms"]["p99"], control["inter_token_ms"]["p99"]
            ratio = with_ms / without_ms
            text = f"{(ratio - 1) * 100:+.1f} % ({_digits(with_ms)} : {_digits(without_ms)} ms, {row['runner']})"
            return Judged(what, asked, text, ratio <= 1.1, "" if ratio <= 1.1 else _spent(row))
    return _unknown(what, asked)


def _flat(rows: Sequence[Row]) -> Iterator[Judged]:
    of_arena = [row for row in rows if row["delivery"] == "arena"]
    sizes = sorted((row for row in of_arena if row["workload"].startswith("bytes:")), key=lambda row: row["workload"])
    yield _growth(
        "stall of a rank's loop per request (median), features of 1 to 256 MB",
        [(row["workload"].partition(":")[2], row["loop_stall_ms"]["p50"]) for row in sizes],
        "ms",
    )
    photo, concurrency = MEASURED[0]
    photos = [row for row in of_arena if (row["workload"], row["concurrency"]) == (photo, concurrency)]
    for runner in sorted({row["runner"] for row in photos} | {"null"}):
        ranks = sorted({row["tp"]: row for row in photos if row["runner"] == runner}.items())
        figures = [(f"TP={tp}", row["cpu_s_per_request"]["rank"] / tp * 1000) for tp, row in ranks]
        yield _growth(f"CPU of one rank for a request, photo, runner {runner}, TP from 1 to 8", figures, "ms")


def _growth(what: str, figures: Sequence[tuple[str, float | None]], unit: str) -> Judged:
    asked = f"flat (at most {FLAT} x)"
    known = [(label, value) for label, value in figures if value]
    if len(known) < 2:
        return _unknown(what, asked)
    ratio = known[-1][1] / known[0][1]
    text = ", ".join(f"{label} {_digits(value)}" for label, value in known)
    return Judged(what, asked, f"{ratio:.2g} x ({text} {unit})", ratio <= FLAT)


def _memory(rows: Sequence[Row]) -> Iterator[Judged]:
    for workload, _ in MEASURED:
        what, asked = f"memory of a request in flight, {workload} at TP={TP}", "one copy of its features"
        ours, _ = _pair(rows, workload, "leader")
        if ours is None or ours["bytes_per_request_in_flight"] is None:
            yield _unknown(what, asked)
        else:
            held = ours["bytes_per_request_in_flight"]
            stored = "stored_bytes_per_request" if "stored_bytes_per_request" in ours else "features_bytes_per_request"
            features = ours[stored]  # as stored in the arena; older runs do not have this figure
            yield Judged(what, asked, f"{held / features:.2f} copies ({held / 1e6:.1f} MB)", held <= 1.1 * features)


def _pair(rows: Sequence[Row], workload: str, other: str) -> tuple[Row | None, Row | None]:
    """Return the rows of `arena` and of another delivery at the target's pace; baselines without their cache."""
    concurrency = dict(MEASURED)[workload]
    at = [row for row in rows if place(row) == (workload, TP, "null", concurrency, None)]
    ours = next((row for row in at if row["delivery"] == "arena" and row["cache"]), None)
    return ours, next((row for row in at if row["delivery"] == other and not row["cache"]), None)


def _spent(row: Row) -> str:
    """Describe where the CPU time of a request goes."""
    cpu_ms = {role: _digits(seconds * 1000) for role, seconds in row["cpu_s_per_request"].items()}
    return (
        f"a request takes {cpu_ms['worker']} ms in workers (header, decoding, transform), {cpu_ms['frontend']} ms in "
        f"the front end, {cpu_ms['rank']} ms in {row['tp']} ranks that each read all features, and "
        f"{_digits(row['verify_cpu_s_per_request'] * 1000)} ms to check digests; all of them share the cores"
    )


def _unknown(what: str, wanted: str) -> Judged:
    return Judged(what, wanted, "not measured in this run", None)


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
