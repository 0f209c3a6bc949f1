"""`mmplane bench` against a real server: a few requests, every field that it promises, and a report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from live import alive

from mmplane.bench.run.server import ROLES
from polling import until

REQUESTS = 4
RANKS = 2


@pytest.fixture(scope="module")
def found(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The JSON of a small run: photographs beside streams of text, and the streams alone."""
    folder = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "mmplane", "bench", "--model", str(tiny_folder), "--workload", "mixed"]
    command += ["--delivery", "arena", "--tp", str(RANKS), "--requests", str(REQUESTS), "--repetitions", "1"]
    command += [
        "--arena-bytes",
        str(256 * 2**20),
        "--json",
        str(folder / "run.json"),
        "--html",
        str(folder / "run.html"),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    assert "arena" in run.stdout
    assert (folder / "run.html").stat().st_size > 1_000_000
    whole: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return whole


def test_there_is_a_row_for_the_workload_and_its_control(found: dict[str, Any]) -> None:
    assert [(row["workload"], row["delivery"], row["tp"]) for row in found["rows"]] == [
        ("mixed", "arena", RANKS),
        ("text", "arena", RANKS),
    ]
    assert all(row["result"] and row["errors"] == 0 for row in found["rows"])
    assert found["environment"]["command"].startswith("mmplane bench --model")


def test_every_photograph_was_materialised_once_and_checked_on_every_rank(found: dict[str, Any]) -> None:
    row = found["rows"][0]
    assert row["requests"] == row["materialisations"] == REQUESTS
    assert row["bytes_written_per_request"] == row["features_bytes_per_request"] > 18_000_000
    assert row["verify_cpu_s_per_request"] > 0


def test_every_role_was_measured(found: dict[str, Any]) -> None:
    row = found["rows"][0]
    cpu_s, peak = row["cpu_s_per_request"], row["peak_bytes"]
    assert all(cpu_s[role] > 0 for role in ("frontend", "worker", "rank"))
    assert cpu_s["total"] == pytest.approx(sum(cpu_s[role] for role in ROLES))
    assert all(peak[role] > 1_000_000 for role in ROLES)
    assert {"frontend", "worker 1", "rank 0", "rank 1"} <= set(row["cpu_s_by_process"])
    assert row["busiest_thread"]["share"] > 0
    assert row["deliver_ms"]["p50"] > 0
    assert row["materialise_ms"]["p50"] > 0
    assert 0 < row["loop_stall_ms"]["p50"] <= row["loop_stall_ms"]["p99"] <= row["loop_stall_ms"]["max"]
    assert row["inter_token_ms"]["p99"] > 0
    assert 0 < row["load"]["busy"] < 1


def test_a_request_takes_at_least_one_copy_of_its_features(found: dict[str, Any]) -> None:
    row = found["rows"][0]
    assert row["bytes_per_request_in_flight"] >= row["stored_bytes_per_request"] > 4_000_000
    assert row["peak_bytes"]["arena_leased"] < row["peak_bytes"]["arena"] <= 256 * 2**20
    assert row["peak_bytes"]["total_leased"] < row["peak_bytes"]["total"]


def test_a_row_of_the_null_runner_says_so(found: dict[str, Any]) -> None:
    assert all("null runner" in row["runner_note"] for row in found["rows"])


def test_transforms_and_pickles_were_compared(found: dict[str, Any]) -> None:
    assert found["transforms"][0]["same_bits"]
    sizes = {kind: found["pickled"][kind]["finished"]["bytes"] for kind in ("image", "video")}
    assert sizes["video"] > 90_000_000 > sizes["image"] > 18_000_000


def test_the_arena_hashes_nothing_and_enters_no_collective(found: dict[str, Any]) -> None:
    row = found["rows"][0]
    assert (row["feature_hash"], row["feature_hashes"], row["collectives"], row["ingress"]) == ("none", 0, 0, None)


def test_a_bench_that_is_killed_leaves_no_server(tiny_folder: Path) -> None:
    command = [sys.executable, "-m", "mmplane", "bench", "--model", str(tiny_folder), "--workload", "text"]
    command += ["--delivery", "arena", "--arena-bytes", str(64 * 2**20)]
    bench = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert bench.stderr is not None
    try:
        assert any("warming up" in line for line in bench.stderr)
        pids = descendants(bench.pid)
        assert len(pids) >= 5  # supervisor, nursery, front end, workers, ranks
    finally:
        bench.kill()
        bench.wait()
        bench.stderr.close()
    until(lambda: not alive(pids), 60.0, "every process of the server ends")


def descendants(pid: int) -> list[int]:
    """Every process below this one."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in map(int, children) for found in (child, *descendants(child))]
