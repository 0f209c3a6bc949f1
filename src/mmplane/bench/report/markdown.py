"""The page `docs/results.md` with its charts, from the runs' JSON. Pure, so a test can compare the page with the JSON.

The page shows the ten designs in each setting, then their cost for growing numbers of ranks, bytes and requests, then
other engines, and then the analyses' predictions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from mmplane.bench.judge.evidence import QUIET_CORES, SETTINGS
from mmplane.bench.judge.groups import Row, groups
from mmplane.bench.judge.joined import Found, environments
from mmplane.bench.judge.predictions import COLUMNS, Verdict, by_analysis, judged, line
from mmplane.bench.judge.targets import Judged, targets
from mmplane.bench.report import charts
from mmplane.bench.report.answers import answers
from mmplane.bench.report.columns import circumstances, in_order, table

STAMP_COLUMNS = ("at", "commit", "CPU", "others", "command")
TARGET_COLUMNS = ("what", "target", "measured", "met", "why not")
FOLDER = "results"
"""Name of the folder beside the page that holds charts and JSON."""
EXPLAINED = {
    "incident": "The constants of the analyses at TP=4. **Only the decoder's time is simulated.** The decoder waits as "
    "long as the analyses say and uses no core, as if each rank had a core of its own. Ranks, collectives, pickles and "
    "sockets are real. The simulated time is shown in a separate column.",
    "cores": "Real photographs and clips with as many ranks as cores, as in the incident.",
    "oversubscribed": "Real photographs and clips with more ranks than cores. Work that every rank repeats has to wait "
    "for a core, so designs that do it once gain more here than on a machine with a core for each rank.",
}
INTRODUCTION = f"""# Results

[docs/incident.md](incident.md) explains the background, and [docs/bench.md](bench.md) the method. `make results` writes
this page, its charts and its JSON (`docs/{FOLDER}/`), and a test checks that they agree.

- **CPU** is milliseconds per request, by role, without the time that ranks spent on checking digests.
- A **stall** is the time for which anything except the model blocked a rank's loop.
- **Peak MB** is the memory of all processes plus the part of the arena that requests hold. The arena itself is reserved
  at the start.
- **p99** of fewer than 200 requests is their maximum, shown as `max`."""
ENGINES = """## SGLang and front ends

[docs/sglang.md](sglang.md#what-it-costs-and-saves) shows what the arena saves inside SGLang 0.5.23, and
[docs/results-sglang.md](results-sglang.md) compares the designs there."""
FRONT_ENDS = """`benchmarks/front_ends.py` compares what a picture costs before an engine gets its features: the sidecar
through a client, transformers' processor in pools of threads and of processes, vLLM's renderer and SGLang's processor.
No picture comes twice, and all of them take turns in one run. The sidecar's decoding and transform *alone*, in
processes that do nothing else, are its floor. *own* is the CPU of the process that asks; *beside* is the CPU above that
floor."""
FRONT_END_COLUMNS = ("work", "with", "pictures/s", "CPU ms", "own ms", "x one decode", "beside ms")


class Page(msgspec.Struct, frozen=True):
    """The text of the page, and its charts by file name."""

    text: str
    charts: dict[str, str]


class _Section(msgspec.Struct, frozen=True):
    lines: Sequence[str]
    charts: dict[str, str] = {}


def page(found: Found, front_ends: dict[str, Any] | None = None) -> Page:
    """Return the whole page. `front_ends` is what `benchmarks/front_ends.py --json` has written."""
    sections = [
        _Section([INTRODUCTION, *_machine(found)]),
        *_settings(found),
        *_scaling(found),
        _Section([ENGINES, *_front_ends(front_ends)]),
        _predictions(found),
        _targets(found),
        _skipped(found["skipped"]),
    ]
    text = "\n\n".join("\n".join(section.lines) for section in sections if section.lines)
    return Page(text + "\n", {name: drawn for section in sections for name, drawn in section.charts.items()})


def target_cells(target: Judged) -> tuple[str, ...]:
    """Return one row of the table of targets."""
    met = {True: "yes", False: "NO", None: ""}[target.met]
    return target.what, target.wanted, target.measured, met, target.why


def _machine(found: Found) -> list[str]:
    environment = found["environment"]
    machine = (
        f"{environment['cores']} cores, {environment['memory_bytes'] / 2**30:.0f} GiB, kernel {environment['kernel']}. "
        "The runs are from different CPUs: across tables, compare ratios and not milliseconds. `others` is the number "
        "of cores that other processes used in the two seconds before the command. Rows with more than "
        f"{QUIET_CORES:g} get no verdict. Runs from before this was measured show their load average instead."
    )
    stamps = [_stamp(each) for each in environments(found)]
    return ["", machine, "", *_table(STAMP_COLUMNS, stamps)]


def _stamp(environment: dict[str, Any]) -> tuple[str, ...]:
    others = environment.get("others_cores")
    shown = f"load {environment['load_average']:.1f}" if others is None else f"{others:.2f}"
    return environment["at"], str(environment["commit"]), environment["cpu"], shown, f"`{environment['command']}`"


def _front_ends(run: dict[str, Any] | None) -> Iterator[str]:
    if run is None:
        return
    yield from ("", FRONT_ENDS, "", *_table(STAMP_COLUMNS, [_stamp(run["environment"])]), "")
    ordered = sorted(run["rows"], key=lambda row: (row["work"], -row["pictures_per_s"]))
    yield from _table(FRONT_END_COLUMNS, [_front_end(row) for row in ordered])
    yield ""
    yield from (f"- {'met' if met else '**missed**'}: {text}" for met, text in run["targets"])


def _front_end(row: dict[str, Any]) -> tuple[str, ...]:
    beside = f"{row['overhead_ms']:.2f}" if "overhead_ms" in row else "-"
    figures = (f"{row['pictures_per_s']:.1f}", f"{row['cpu_ms']:.1f}", f"{row['own_cpu_ms']:.2f}")
    return row["work"], row["contestant"], *figures, f"{row['cpu_of_fixed_decode']:.2f}", beside


def _settings(found: Found) -> Iterator[_Section]:
    yield _Section(["## The ten designs, in three settings"])
    for setting in SETTINGS:
        rows = [row for row in found["rows"] if row["setting"] == setting]
        compared = [(title, group) for title, group in groups(rows) if len(group) > 1 and not _sized(group[0])]
        yield _Section([f"### Setting `{setting}`", "", EXPLAINED[setting], *([] if compared else ["", "No run yet."])])
        for title, group in compared:
            drawn = _file(setting, group[0])
            said = answers({"rows": group})
            lines = [f"#### {title}", "", *_picture(title, drawn), "", *said[:1], "", *_rows(group)]
            yield _Section(lines, {drawn: charts.designs(title, group)})


def _scaling(found: Found) -> Iterator[_Section]:
    results = [row for row in found["rows"] if row["result"]]
    yield _Section(["## Scaling"])
    yield from _over_ranks(results)
    yield from _over_bytes([row for row in results if _sized(row)])
    yield from _over_requests([row for row in results if row["setting"] == "incident"])
    alone = [(title, group) for title, group in groups(found["rows"]) if len(group) == 1 or _sized(group[0])]
    for title, group in alone:
        yield _Section([f"#### {title}", "", *_rows(group)])


def _over_ranks(rows: Sequence[Row]) -> Iterator[_Section]:
    """CPU of one rank for photographs, at the pace that was measured with the most numbers of ranks."""
    photos = [row for row in rows if row["workload"] == "photo" and row["delivery"] == "arena"]
    paces = {row["concurrency"]: {each["tp"] for each in photos if each["concurrency"] == row["concurrency"]}
             for row in photos}  # fmt: skip
    pace = max(paces, key=lambda pace: len(paces[pace]), default=None)
    if pace is None or len(paces[pace]) < 2:
        return
    title = f"CPU of one rank for one request, photo, {pace} at once, null runner"
    chosen = [row for row in photos if row["concurrency"] == pace]
    per_rank = ("ms", lambda row: row["cpu_s_per_request"]["rank"] * 1000 / row["tp"])
    drawn = charts.over(title, ("ranks", lambda row: row["tp"]), per_rank, chosen, logarithmic=False)
    yield _Section(["### Ranks", "", *_picture(title, "ranks.svg")], {"ranks.svg": drawn})


def _over_bytes(rows: Sequence[Row]) -> Iterator[_Section]:
    if len({row["workload"] for row in rows}) < 2:
        return
    title = "Latency over the bytes of features, TP=4, 2 at once"
    size = ("MB of features", lambda row: float(round(row["features_bytes_per_request"] / 1e6)))
    mean = ("mean latency, ms", lambda row: row["latency_ms"]["mean"])
    drawn = charts.over(title, size, mean, rows, logarithmic=True)
    yield _Section(["### Bytes", "", *_picture(title, "bytes.svg")], {"bytes.svg": drawn})


def _over_requests(rows: Sequence[Row]) -> Iterator[_Section]:
    closed = [row for row in rows if row["concurrency"] is not None]
    workloads = [row["workload"] for row in closed]
    workload = max(workloads, key=lambda name: len({row["concurrency"] for row in closed if row["workload"] == name}),
                   default="")  # fmt: skip
    chosen = [row for row in closed if row["workload"] == workload]
    if len({row["concurrency"] for row in chosen}) < 2:
        return
    title = f"Rate over requests at once, {workload}, TP={chosen[0]['tp']}"
    pace = ("requests at once", lambda row: row["concurrency"])
    drawn = charts.over(title, pace, ("req/s", lambda row: row["qps"]), chosen, logarithmic=False)
    yield _Section(["### Requests at once", "", *_picture(title, "requests.svg")], {"requests.svg": drawn})


def _predictions(found: Found) -> _Section:
    verdicts = judged(found)
    held = sum(verdict.agrees is True for verdict in verdicts)
    failed = sum(verdict.agrees is False for verdict in verdicts)
    lines = [
        "## Predicted and measured",
        "",
        (
            f"Of {len(verdicts)} predictions, {held} hold in the setting that they are about, and {failed} do not. The "
            "figure of that setting is bold; the verdict and its reason refer to it. The other columns show how the "
            "prediction does in the other settings. Absolute times are converted to the ratios that they imply."
        ),
    ]
    for name, group in by_analysis(verdicts):
        heading = "The incident itself" if name == "incident" else f"Analysis {name}"
        lines += ["", f"### {heading}", "", *_table(COLUMNS, [_line(verdict) for verdict in group])]
    return _Section(lines)


def _line(verdict: Verdict) -> tuple[str, ...]:
    """Return the cells of a row, with a link to the test if a test counts the figure."""
    path = (verdict.prediction.test or "").partition("::")[0]
    *cells, why = line(verdict)
    return *cells, f"{why} ([test](../{path}))" if path else why


def _targets(found: Found) -> _Section:
    judgements = [target_cells(each) for each in targets(found) if each.met is not None]
    return _Section(["## Targets of arena", "", *_table(TARGET_COLUMNS, judgements)] if judgements else [])


def _skipped(skipped: Sequence[dict[str, str]]) -> _Section:
    rows = [(each["workload"], each["delivery"], each["why"]) for each in skipped]
    lines = ["## Not measured", "", *_table(("workload", "delivery", "why"), rows)]
    return _Section(lines if rows else [])


def _sized(row: Row) -> bool:
    return bool(row["workload"].startswith("bytes:"))


def _rows(group: Sequence[Row]) -> list[str]:
    said = [f"{'; '.join(circumstances(group))}.", ""] if circumstances(group) else []
    return [*said, *_table(*table(in_order(group)))]


def _file(setting: str, row: Row) -> str:
    pace = f"{row['rate']:g}-a-second" if row["concurrency"] is None else f"{row['concurrency']}-at-once"
    runner = "" if row["runner"] == "null" else f"-{row['runner']}"
    return f"{setting}-{row['workload']}-tp{row['tp']}-{pace}{runner}.svg".replace(":", "-")


def _picture(title: str, name: str) -> list[str]:
    return [f"![{title}]({FOLDER}/{name})"]


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(names)} |",
        "|" + "---|" * len(names),
        *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows),
    ]
