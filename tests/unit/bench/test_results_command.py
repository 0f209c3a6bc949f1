"""`mmplane bench results`: which commands it runs, what a failing one leaves, and what the page is made of."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from bench_run import row_of, run_of

from mmplane.bench import results
from mmplane.bench.judge.analyses import PREDICTIONS
from mmplane.bench.options import deliveries, options_parser, workloads
from mmplane.bench.run.settings import SETTINGS


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was run, of commands that write a run with one row; that of `ranks` ends with an error."""
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        ran.append(command[4:])
        path = Path(command[command.index("--json") + 1])
        path.write_text(json.dumps(run_of([row_of("arena"), row_of("leader", slower=2.0)])))
        return subprocess.CompletedProcess(command, int(path.stem == "ranks"))

    monkeypatch.setattr(results.subprocess, "run", run)
    return ran


@pytest.mark.parametrize("effort", [[], ["--short"], ["--quick"]])
def test_every_command_is_one_that_is_taken(effort: list[str], commands: list[list[str]], tmp_path: Path) -> None:
    assert results.main([*effort, "--folder", str(tmp_path)]) == int(not effort)
    assert commands
    for command in commands:
        options = options_parser().parse_args(command)
        assert options.setting or workloads(options.workload)
        assert deliveries(options.delivery)


def test_every_prediction_has_a_place_in_half_an_hour(commands: list[list[str]], tmp_path: Path) -> None:
    results.main(["--short", "--folder", str(tmp_path)])
    asked = [options_parser().parse_args(command) for command in commands]
    paces = {options.concurrency for options in asked if options.workload.startswith("incident:500")}
    judged = {at[0] for prediction in PREDICTIONS if (at := prediction.at) and prediction.setting == "incident"}
    quick = {case.concurrency for case in SETTINGS["incident"].chosen(quick=True)}
    assert judged <= paces | quick


def test_all_of_it_takes_less_than_three_hours() -> None:
    assert sum(run.minutes for run in results.RUNS) < 180


def test_a_look_is_a_part_of_it(commands: list[list[str]], tmp_path: Path) -> None:
    assert results.main(["--quick", "--folder", str(tmp_path)]) == 0
    assert [command[:2] for command in commands[:3]] == [["--setting", name] for name in SETTINGS]
    assert len(commands) == len(SETTINGS)


def test_what_is_not_run_again_stays(commands: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    old = run_of([row_of("original", workload="video-2mb"), row_of("eager", workload="video-2mb")])
    (tmp_path / "results" / "cores.json").write_text(json.dumps(old))
    (tmp_path / "results" / "gone.svg").write_text("a chart of a run of before")
    assert results.main(["--only", "oversubscribed", "--folder", str(tmp_path)]) == 0
    text = (tmp_path / "results.md").read_text()
    assert "video-2mb: 2 ranks" in text
    assert "photo: 2 ranks" in text
    assert sorted(path.name for path in (tmp_path / "results").glob("*.svg")) == [
        "cores-photo-tp2-8-at-once.svg", "cores-video-2mb-tp2-8-at-once.svg",
    ]  # fmt: skip


def test_a_part_leaves_the_whole_and_the_whole_ends_its_parts(commands: list[list[str]], tmp_path: Path) -> None:
    def files() -> set[str]:
        return {path.stem for path in (tmp_path / "results").glob("*.json")}

    run = ["--folder", str(tmp_path), "--only", "cores"]
    results.main(run)
    results.main([*run, "--quick"])
    assert files() == {"cores", "cores-quick"}
    results.main([*run, "bytes"])
    assert files() == {"cores", "bytes"}


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no JSON of a run"):
        results.page_of(tmp_path)


def test_front_ends_have_a_table_once_they_are_measured(commands: list[list[str]], tmp_path: Path) -> None:
    assert results.main(["--only", "cores", "--folder", str(tmp_path)]) == 0
    assert "front_ends.py" not in (tmp_path / "results.md").read_text()
    figures = {"pictures_per_s": 80.0, "cpu_ms": 12.5, "own_cpu_ms": 0.51, "cpu_of_fixed_decode": 1.3}
    rows = [{"work": "a page", "contestant": name, **figures} for name in ("vLLM", "sidecar")]
    rows[1]["overhead_ms"] = 2.75
    run = {"environment": run_of([])["environment"], "rows": rows, "targets": [[False, "a page: 2.1 x the rate"]]}
    (tmp_path / "front-ends.json").write_text(json.dumps(run))
    results.write(tmp_path)
    text = (tmp_path / "results.md").read_text()
    assert "| a page | sidecar | 80.0 | 12.5 | 0.51 | 1.30 | 2.75 |" in text
    assert "| a page | vLLM | 80.0 | 12.5 | 0.51 | 1.30 | - |" in text
    assert "- **missed**: a page: 2.1 x the rate" in text
