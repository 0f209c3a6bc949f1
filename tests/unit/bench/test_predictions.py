"""Predictions: every claim of the analyses has a row, and is judged by the right rows of the right setting."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from bench_run import row_of, run_of

from mmplane.bench.judge.analyses import PREDICTIONS
from mmplane.bench.judge.evidence import SETTINGS, evidence
from mmplane.bench.judge.joined import joined
from mmplane.bench.judge.predictions import COLUMNS, Verdict, judged, line

ROOT = Path(__file__).parents[3]
CELLS = {
    "A1": "10 MB tensor, TP=4, 20 ms hash: CPU -75 % vs original (80 -> 20 ms); latency -65 % vs the commit "
    "(100 -> 35 ms), +17 % vs original",
    "A2": "saves repeats only",
    "A3": "main thread not blocked",
    "A4": "-",
    "B1": "CPU 2,000 -> 500 ms; latency 500 (original) / 750 (commit) / 650 ms; 10 concurrent: 2 / 1.3 / 1.7 req/s; "
    "CPU use < 70 %",
    "B2": "scales the tokenizer",
    "B3": "less to send",
    "B4": "520 ms latency, high throughput",
    "C1": "serialisation 500 -> 50 ms; 2-3x the commit's throughput",
    "C2": "a further 1.5-2x",
    "C3": "3-5x the commit's throughput",
    "C4": "-",
    "C5": "-",
    "D1": "10 broadcasts 572 -> 210 ms (-63 %); throughput +6 % (batch 10), +10 % (batch 50); CPU < 60 %; p99 < 600 "
    "ms; QPS > 1.8 (commit 1.5); no leak",
}
"""The last column of the analyses' table, word for word."""
ASKED = {
    "incident": ("2,000 ms of CPU for 500 ms of useful work", "CPU fell by 75 %", "throughput collapsed",
                 "CPU sat at 99.9 %", "can pass 500 ms"),
    "A2": ("gives false hits",),
    "A4": ("pickled size of object vs dict", "every consumer accepts the new type",
           "what happens when construction fails in the tokenizer"),
    "C4": ("sync/async chosen at run time",),
    "C5": ("100 concurrent requests; mean and p99", "metrics for broadcast time", "materialise time per rank"),
    "D1": ("sent in one collective", "results wait in a cache, popped by request id", "FIFO bound 1,000",
           "skipped when TP=1"),
}  # fmt: skip
"""What is claimed elsewhere in that document, in its words."""
CONTEXT = "10 MB tensor, TP=4, 20 ms hash:"


def quotes(analysis: str) -> list[str]:
    return [each.quote for each in PREDICTIONS if each.analysis == analysis]


def verdict(found: dict[str, Any], prediction: str) -> Verdict:
    (verdict,) = [each for each in judged(joined([found])) if each.prediction.id == prediction]
    return verdict


def incident(name: str, **more: Any) -> dict[str, Any]:
    place = {"workload": "incident:500", "tp": 4, "concurrency": 10, "setting": "incident"}
    return row_of(name, **(place | more))


@pytest.mark.parametrize("analysis", [name for name, cell in CELLS.items() if cell != "-"])
def test_every_word_of_a_prediction_is_quoted_by_a_row(analysis: str) -> None:
    left = CELLS[analysis].replace(CONTEXT, "")
    for quote in sorted(quotes(analysis), key=len, reverse=True):
        left = left.replace(quote, "")
    assert re.sub(r"[;,/ ]", "", left) == ""


@pytest.mark.parametrize(("analysis", "claims"), ASKED.items(), ids=ASKED)
def test_every_other_claim_is_quoted_by_a_row(analysis: str, claims: tuple[str, ...]) -> None:
    assert set(claims) <= set(quotes(analysis))


def test_every_analysis_has_rows_and_every_id_is_its_own() -> None:
    assert {each.analysis for each in PREDICTIONS} == {"incident", *CELLS}
    assert len({each.id for each in PREDICTIONS}) == len(PREDICTIONS)


def test_the_copy_is_what_the_analyses_say() -> None:
    """Where they lie beside the repository; they are no part of it."""
    original = ROOT.parent / "shared" / "docs" / "analyses.md"
    if original.exists():
        text = " ".join(original.read_text().split())
        rows = dict(re.findall(r"\| ([A-D]\d) \|(?:[^|]*\|){2} ([^|]*) \|", text))
        assert rows == CELLS
        plain = text.replace("*", "").replace("`", "")
        assert [each for claims in ASKED.values() for each in claims if each not in plain] == []


def test_every_test_that_a_prediction_names_exists() -> None:
    for path, name in (each.test.split("::") for each in PREDICTIONS if each.test):
        assert f"def {name}(" in (ROOT / path).read_text()


def test_a_prediction_has_a_cell_for_each_setting_and_a_reason() -> None:
    for verdict in judged(joined([run_of([])])):
        assert len(line(verdict)) == len(COLUMNS)
        assert len(verdict.cells) == len(SETTINGS)
        assert verdict.why


def test_a_prediction_that_holds_is_judged_in_its_own_setting() -> None:
    elsewhere = {"setting": "oversubscribed", "workload": "video-2mb"}
    rows = [incident("original", slower=4.0), incident("leader"), incident("original", **elsewhere),
            incident("leader", slower=2.0, **elsewhere)]  # fmt: skip
    found = verdict(run_of(rows), "I2")
    assert (found.agrees, found.verdict) == (True, "holds")
    assert found.cells == ("**0.25 x (incident:500, TP=4, 10 at once)**", "-", "2 x (video-2mb, TP=4, 10 at once)")


def test_one_that_does_not_hold_says_by_how_much_and_why() -> None:
    found = verdict(run_of([incident("original"), incident("leader", slower=2.0)]), "I2")
    assert (found.agrees, found.verdict) == (False, "does not hold")
    assert found.why.startswith("`leader` 320 ms of CPU, `original` 160: there is one decode instead of four")


def test_simulated_time_counts_as_cpu() -> None:
    rows = [
        incident("original", simulated_cpu_s_per_request=0.84),
        incident("leader", simulated_cpu_s_per_request=0.09),
    ]
    assert verdict(run_of(rows), "I2").cells[0].startswith("**0.25 x")


def test_another_setting_alone_gives_a_figure_and_no_verdict() -> None:
    rows = [row_of("original", tp=4), row_of("leader", tp=4)]
    found = verdict(run_of(rows), "I2")
    assert found.agrees is None
    assert found.cells[2] == "1 x (photo, TP=4, 8 at once)"


def test_another_pace_gives_a_figure_and_no_verdict() -> None:
    rows = [incident(name, concurrency=at_once) for name in ("original", "leader") for at_once in (10, 50)]
    assert verdict(run_of(rows), "B1.2").verdict == "no verdict: measured with 10 at once"
    assert verdict(run_of(rows), "B1.4").agrees is False
    assert verdict(run_of([row for row in rows if row["concurrency"] == 50]), "B1.4").agrees is None


@pytest.mark.parametrize(("others_cores", "agrees"), [(0.1, True), (0.11, None), (None, True)])
def test_a_busy_machine_gets_no_verdict(others_cores: float | None, agrees: bool | None) -> None:
    found = run_of([incident("original", slower=4.0), incident("leader")])
    found["environment"]["others_cores"] = others_cores
    assert verdict(found, "I2").agrees is agrees


def test_what_was_pickled_on_a_busy_machine_gets_no_verdict() -> None:
    form = {"bytes": 90_000_000, "dumps_ms": 400.0, "loads_ms": 400.0}
    found = run_of([], pickled={"video": {"raw": form, "finished": form}})
    assert verdict(found, "I6").agrees is True
    found["environment"]["others_cores"] = 0.5
    assert verdict(found, "I6").verdict == "no verdict: the machine was busy"


def test_rows_of_other_paces_or_ranks_are_not_compared() -> None:
    rows = [incident("original"), incident("leader", concurrency=16), incident("leader", tp=2)]
    assert evidence(joined([run_of(rows)]))["incident"].both("leader", "original", (10,)) is None


def test_the_large_clip_is_taken_only_where_it_is_asked_for() -> None:
    rows = [incident("leader", workload=name) for name in ("incident:500:90MB", "incident:500", "incident:10")]
    here = evidence(joined([run_of(rows)]))["incident"]
    assert here.row("leader", (10,)) == here.rows[1]
    assert here.row("leader", (10,), ("incident:500:90MB",)) == here.rows[0]
    assert here.row("leader", (10,), ("photo",)) is None
    assert here.row("leader", (10,), ("incident:10",)) == here.rows[2]


def test_the_busiest_thread_holds_the_decoding_that_was_simulated_on_it() -> None:
    thread = {"role": "rank", "share": 0.25}
    rows = [incident("leader", concurrency=100, busiest_thread=thread, simulated_cpu_s_per_request=0.1) | {"qps": 7.0}]
    assert verdict(run_of(rows), "I5").cells[0].startswith("**95 %")


def test_serialisation_is_judged_by_what_was_pickled() -> None:
    def pickled(raw_ms: float) -> dict[str, Any]:
        raw = {"bytes": 1000, "dumps_ms": raw_ms / 2, "loads_ms": raw_ms / 2}
        return {"raw": raw, "finished": {"bytes": 10_000_000, "dumps_ms": 6.0, "loads_ms": 4.0}}

    assert verdict(run_of([], pickled={"video": pickled(1.0)}), "C1.1").agrees is True
    assert verdict(run_of([], pickled={"video": pickled(5.0)}), "C1.1").agrees is False
    assert verdict(run_of([], pickled={"video": pickled(1.0)}), "I6").agrees is False


@pytest.mark.parametrize(("growth", "agrees"), [(0.001, True), (0.2, False)])
def test_memory_is_judged_by_the_soak(growth: float, agrees: bool) -> None:
    soak = {"growth_share": growth, "seconds": 1800, "delivery": "leader-batch", "flat": agrees, "samples": []}
    assert verdict(run_of([], soak=soak), "D1.8").agrees is agrees


def test_ranks_are_compared_by_their_medians() -> None:
    by_rank = {"0": {"p50": 500.0}, "1": {"p50": 600.0}, "2": {"p50": None}}
    assert (
        verdict(run_of([incident("original", materialise_ms_by_rank=by_rank)]), "C5.4").cells[0].startswith("**1.2 x")
    )


def test_a_cache_is_judged_by_what_it_saves_of_repeats() -> None:
    rows = [row_of("leader", workload="repeat:80", cache=True, concurrency=10) | {"setting": "cores"},
            row_of("leader", workload="repeat:80", slower=4.0, concurrency=10) | {"setting": "cores"}]  # fmt: skip
    found = verdict(run_of(rows), "A2.2")
    assert found.agrees is True
    assert found.why.startswith("`leader` 160 ms of CPU with its cache, 640 without")
