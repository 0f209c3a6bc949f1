"""The command: what it takes, what it refuses, and that it renders a run's JSON again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench_run import row_of, run_of

from mmplane.bench.inputs.workloads import WORKLOADS
from mmplane.bench.main import main, written
from mmplane.bench.options import counts, deliveries, options_parser, workloads
from mmplane.bench.run.campaign import repetitions_of, rotated
from mmplane.bench.run.settings import Options
from mmplane.config import DELIVERY_NAMES


def test_names_are_resolved() -> None:
    assert deliveries("all") == DELIVERY_NAMES
    assert deliveries("arena,leader") == ("arena", "leader")
    assert [workload.name for workload in workloads("photo,bytes")][:3] == ["photo", "bytes:001MB", "bytes:004MB"]
    assert [workload.name for workload in workloads("repeat,repeat:80")][1:] == [
        "repeat:50", "repeat:80", "repeat:95", "repeat:80",
    ]  # fmt: skip


@pytest.mark.parametrize("arguments", [["--delivery", "pigeon"], ["--workload", "nothing"], ["--model", "nowhere"]])
def test_unknown_names_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert f"{arguments[0]}: no such" in capsys.readouterr().err


def test_a_closed_and_an_open_loop_exclude_each_other() -> None:
    with pytest.raises(SystemExit):
        options_parser().parse_args(["--concurrency", "3", "--rate", "2"])


def test_baselines_have_no_cache_unless_asked() -> None:
    options = Options(deliveries=("leader", "arena"), model_folder="", runner="null")
    assert options.variants() == [("leader", False), ("arena", True)]
    both = Options(deliveries=("leader",), model_folder="", runner="null", cache=(False, True))
    assert both.variants() == [("leader", False), ("leader", True)]


@pytest.mark.parametrize(
    ("requests", "concurrency", "repetitions"), [(24, 8, 3), (24, 10, 2), (512, 96, 3), (5, 10, 1), (1, 1, 1)]
)
def test_repetitions_keep_all_connections_busy(requests: int, concurrency: int, repetitions: int) -> None:
    assert repetitions_of(requests, concurrency, 3) == repetitions


def test_deliveries_rotate_inside_a_repetition() -> None:
    variants = [(name, False) for name in "ABC"]
    orders = ["".join(name for name, _ in rotated(variants, repetition)) for repetition in range(4)]
    assert orders == ["ABC", "BCA", "CAB", "ABC"]


def test_the_pace_is_the_askers_before_the_workloads() -> None:
    def pace(**more: float) -> tuple[int, float | None]:
        options = Options(deliveries=(), model_folder="", runner="null", **more)  # type: ignore[arg-type]
        return options.pace(WORKLOADS["mixed"])

    assert pace() == (4, 5.0)
    assert pace(concurrency=9) == (9, None)
    assert pace(rate=2.0) == (4, 2.0)


def test_a_json_is_rendered_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "run.json"
    source.write_text(json.dumps(run_of([row_of("arena"), row_of("leader", slower=3.0)])))
    flags = ["--html", str(tmp_path / "run.html"), "--markdown", str(tmp_path / "run.md")]
    assert main(["--from", str(source), *flags]) == 0
    assert "arena is fastest" in (tmp_path / "run.html").read_text()
    assert "arena is fastest" in (tmp_path / "run.md").read_text()
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["cores-photo-tp2-8-at-once.svg"]
    assert "leader" in capsys.readouterr().out


def test_a_run_is_written_as_json_with_a_line_for_each_row() -> None:
    run = run_of([row_of("arena"), row_of("leader")])
    text = written(run)
    assert json.loads(text) == json.loads(json.dumps(run))
    assert sum(line.startswith('{"delivery"') for line in text.splitlines()) == 2


@pytest.mark.parametrize("text", ["", "two", "2,", "0", "-1"])
def test_ranks_are_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="--tp"):
        counts(text)


def test_a_run_with_errors_does_not_succeed(tmp_path: Path) -> None:
    source = tmp_path / "run.json"
    failed = {"result": False, "errors": 1, "error_codes": {"timeout": 1}}
    source.write_text(json.dumps(run_of([row_of("arena") | failed])))
    assert main(["--from", str(source)]) == 1
