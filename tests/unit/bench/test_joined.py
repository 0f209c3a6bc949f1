from __future__ import annotations

from typing import Any

from bench_run import row_of, run_of

from mmplane.bench.judge.joined import environments, joined, newest
from mmplane.bench.report.markdown import page


def run(command: str, *names: str, **more: Any) -> dict[str, Any]:
    found = run_of([row_of(name) for name in names], **more)
    return found | {"environment": found["environment"] | {"command": command}}


def test_rows_follow_one_another_and_every_command_is_named() -> None:
    first, second = run("one", "leader"), run("two", "arena", "auto", soak={"flat": True})
    whole = joined([first, second, run("three")])
    assert [row["delivery"] for row in whole["rows"]] == ["leader", "arena", "auto"]
    assert whole["soak"] == {"flat": True, "others_cores": None}
    assert [each["command"] for each in environments(whole)] == ["one", "two", "three"]
    assert len(first["rows"]) == 1, "what was joined is as it was"


def test_what_was_joined_may_be_joined_again() -> None:
    twice = joined([joined([run("one"), run("two")]), run("three")])
    assert [each["command"] for each in environments(twice)] == ["one", "two", "three"]


def test_a_row_says_in_which_setting_and_when_it_was_measured_wherever_it_goes() -> None:
    first, second = run("one", "leader"), run("two", "arena")
    second["environment"] |= {"at": "2026-02-02", "others_cores": 0.5, "cores": 1}
    whole = joined([joined([first, second]), run("three")])
    stamps = [(row["setting"], row["at"], row["others_cores"]) for row in whole["rows"]]
    assert stamps == [("cores", "2026-01-01T00:00:00+00:00", None), ("oversubscribed", "2026-02-02", 0.5)]


def test_a_setting_that_a_row_names_is_kept() -> None:
    named = run_of([row_of("arena", setting="incident"), row_of("arena", setting=None)])
    assert [row["setting"] for row in joined([named])["rows"]] == ["incident", "cores"]


def test_of_rows_of_one_place_the_newest_counts() -> None:
    older, newer = run("one", "leader", "arena"), run("two", "leader")
    newer["environment"]["at"] = "2026-02-02"
    found = newest(joined([newer, older]))
    assert [(row["delivery"], row["at"][:10]) for row in sorted(found["rows"], key=lambda row: row["at"])] == [
        ("arena", "2026-01-01"),
        ("leader", "2026-02-02"),
    ]


def test_of_timelines_the_newest_count() -> None:
    def drawn(command: str, at: str) -> dict[str, Any]:
        found = run(command, timelines=[{"delivery": "arena", "at_once": 1, "requests": [command]}])
        found["environment"]["at"] = at
        return found

    found = newest(joined([drawn("new", "2026-02-02"), drawn("old", "2026-01-01")]))
    assert [group["requests"] for group in found["timelines"]] == [["new"]]


def test_the_page_names_all_commands() -> None:
    whole = page(joined([run("mmplane bench one", "arena"), run("mmplane bench two", "leader")])).text
    assert "`mmplane bench one`" in whole
    assert "`mmplane bench two`" in whole
