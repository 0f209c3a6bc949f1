from __future__ import annotations

from typing import Any

from bench_run import row_of, run_of

from mmplane.bench.report.joined import environments, joined
from mmplane.bench.report.markdown import page


def run(command: str, *names: str, **more: Any) -> dict[str, Any]:
    found = run_of([row_of(name) for name in names], **more)
    return found | {"environment": found["environment"] | {"command": command}}


def test_rows_follow_one_another_and_every_command_is_named() -> None:
    first, second = run("one", "leader"), run("two", "arena", "auto", soak={"flat": True})
    whole = joined([first, second, run("three")])
    assert [row["delivery"] for row in whole["rows"]] == ["leader", "arena", "auto"]
    assert whole["soak"] == {"flat": True}
    assert [each["command"] for each in environments(whole)] == ["one", "two", "three"]
    assert len(first["rows"]) == 1, "what was joined is as it was"


def test_what_was_joined_may_be_joined_again() -> None:
    twice = joined([joined([run("one"), run("two")]), run("three")])
    assert [each["command"] for each in environments(twice)] == ["one", "two", "three"]


def test_one_run_stays_as_it_is() -> None:
    assert joined([run("one", "arena")]) == run("one", "arena")


def test_the_page_names_all_commands() -> None:
    whole = page(joined([run("mmplane bench one", "arena"), run("mmplane bench two", "leader")]))
    assert "`mmplane bench one`" in whole
    assert "`mmplane bench two`" in whole
