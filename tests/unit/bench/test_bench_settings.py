"""The named settings: complete, with names that exist, and nothing that a flag could quietly change."""

from __future__ import annotations

import argparse

import pytest

from mmplane.bench.main import main
from mmplane.bench.options import cases, options_parser, workloads
from mmplane.bench.run.campaign import plan_of
from mmplane.bench.run.settings import SETTINGS, Pools
from mmplane.config import DELIVERY_NAMES
from mmplane.machine import cores_usable

P99_REQUESTS = 200
every_setting = pytest.mark.parametrize("name", SETTINGS)


def asked(*arguments: str) -> argparse.Namespace:
    return options_parser().parse_args(["--model", ".", "--arena-bytes", "67108864", *arguments])


@every_setting
def test_all_deliveries_take_turns_in_every_case(name: str) -> None:
    runs = cases(asked("--setting", name))
    assert len(runs) == len(SETTINGS[name].cases)
    for _, tp, how in runs:
        assert tp == (SETTINGS[name].tp or cores_usable())
        assert (how.setting, how.runner, how.deliveries) == (name, "null", DELIVERY_NAMES)
        assert (how.concurrency is None) != (how.rate is None)


@every_setting
def test_a_quick_run_is_a_part_of_it(name: str) -> None:
    whole = {(case.workload, case.concurrency) for case in SETTINGS[name].cases}
    quick = SETTINGS[name].chosen(quick=True)
    assert [how.memory for _, _, how in cases(asked("--setting", name, "--quick"))] == [False] * len(quick)
    assert [how.memory for _, _, how in cases(asked("--setting", name))] == [one.memory for one in SETTINGS[name].cases]
    assert {(case.workload, case.concurrency) for case in quick} < whole or len(quick) == len(whole)
    assert all(case.concurrency and case.concurrency <= case.requests <= 20 for case in quick)


def test_the_incident_has_the_sizes_and_paces_of_the_analyses() -> None:
    paces = {(case.workload, case.concurrency or case.rate) for case in SETTINGS["incident"].cases}
    sized = {(f"incident:500:{size}", at_once) for size in ("2MB", "10MB") for at_once in (1, 10, 50, 100)}
    large = {("incident:500:90MB", 1), ("incident:500:90MB", 10)}
    assert paces == sized | large | {("incident:500:10MB", 100.0), ("incident:10:10MB", 1)}
    (flood,) = [case for case in SETTINGS["incident"].cases if case.rate]
    assert flood.requests * flood.cycles == 1000


def test_the_incident_has_the_pools_of_the_analyses() -> None:
    (workload,) = workloads("incident:500")
    assert Pools().of(workload) == {"workers": 4, "leader_threads": 4, "delivery_threads": 2}
    assert Pools(workers=7).of(workload)["workers"] == 7


def test_an_open_loop_is_refused_as_the_server_would_and_a_closed_one_is_answered() -> None:
    for workload, _, how in cases(asked("--setting", "incident")):
        assert ("--request-seconds" in how.server_flags(workload)) == (how.rate is None)


@every_setting
def test_no_workload_gets_what_an_earlier_request_left(name: str) -> None:
    for workload, _, how in cases(asked("--setting", name)):
        flags = how.server_flags(workload)
        for flag, value in (("--embedding-cache-bytes", "0"), ("--prefix-cache", "off"), ("--encoding", "float32")):
            assert flags[flags.index(flag) + 1] == value


def test_real_media_have_enough_requests_for_what_is_said_of_them() -> None:
    def least(workload: str) -> int:
        return min(case.requests for case in SETTINGS["cores"].cases if case.workload == workload)

    assert least("photo") >= P99_REQUESTS
    assert least("video-2mb") >= 40


def test_a_delivery_may_be_asked_for_alone() -> None:
    assert {how.deliveries for _, _, how in cases(asked("--setting", "incident", "--delivery", "leader"))} == {
        ("leader",)
    }


@pytest.mark.parametrize(
    "arguments", [["--tp", "8"], ["--workload", "4k"], ["--rate", "3"], ["--runner", "hf"], ["--requests", "9"]]
)
def test_what_a_setting_decides_is_not_asked_for(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--setting", "cores", *arguments]) == 2
    assert f"--setting determines {arguments[0]}" in capsys.readouterr().err


def test_a_stopped_run_is_continued_with_the_case_that_it_had_begun() -> None:
    whole = cases(asked("--setting", "incident"))
    rest = cases(asked("--setting", "incident", "--first-case", "4"))
    assert [how for _, _, how in rest] == [how for _, _, how in whole[3:]]
    with pytest.raises(ValueError, match="incident has no case 13"):
        cases(asked("--setting", "incident", "--first-case", "13"))


def test_quick_is_of_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick"]) == 2
    assert "--setting" in capsys.readouterr().err


def test_a_flood_sends_its_requests_again_under_other_stamps() -> None:
    ((workload, _, how),) = [each for each in cases(asked("--setting", "incident")) if each[2].rate]
    load = workload.make(how.requests or 0, 1)
    plan = plan_of(how, workload, load, load.requests, 0)
    assert plan.arrivals_s is not None
    assert (len(plan.requests), plan.cycles, len(plan.arrivals_s)) == (100, 10, 1000)
