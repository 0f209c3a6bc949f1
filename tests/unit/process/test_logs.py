"""The log: one line for each event, as JSON or for people, of bounded length, and so many for one request."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mmplane.process import logs
from mmplane.process.logs import DETAIL_CHARACTERS_MAX, LINES_MAX, MESSAGE_CHARACTERS_MAX, Asked, begin, on_behalf

log = logging.getLogger("mmplane")


Written = Callable[[], str]


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Written]:
    """What has been logged since the last time."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers = []
    yield lambda: capsys.readouterr().err
    root.handlers = before
    root.setLevel(level)


def objects(written: Written) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written().splitlines()]


def fail(text: str = "it went wrong") -> None:
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("an item failed")


def test_a_line_is_an_object(written: Written) -> None:
    begin("json", "info", "worker 1")
    log.info("said %d things\nwith a line's end", 2)
    log.debug("not said")
    with on_behalf(Asked("abc-1")):
        fail()
    said, failed = objects(written)
    assert said["message"] == "said 2 things\\nwith a line's end"
    assert (said["level"], said["process"], said["logger"]) == ("info", "worker 1", "mmplane")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said["at"])
    assert "request_id" not in said
    assert failed["request_id"] == "abc-1"
    assert failed["error"].endswith("ValueError: it went wrong")


def test_lines_for_people(written: Written) -> None:
    begin("text", "info", "frontend")
    with on_behalf(Asked("abc-1")):
        log.warning("careful")
        fail()
    first, second, *rest = written().splitlines()
    assert re.fullmatch(r"\S+ \S+ mmplane WARNING careful \[abc-1\]", first)
    assert second.endswith("an item failed [abc-1]")
    assert rest[-1] == "ValueError: it went wrong"


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_line_is_cut(form: str, written: Written) -> None:
    begin(form, "info", "frontend")
    log.info("x" * 6_000_000)
    fail("y" * 6_000_000)
    log.warning("stacks", extra={"stacks": "z" * 6_000_000})
    assert len(written()) < 2 * DETAIL_CHARACTERS_MAX + 5 * MESSAGE_CHARACTERS_MAX


def check_one_request_is_bounded(written: Written) -> None:
    begin("json", "info", "frontend")
    with on_behalf(Asked("loud")):
        for number in range(1000):
            log.info("line %d", number)
    log.info("another's")
    said = objects(written)
    assert len(said) == LINES_MAX + 1
    assert said[-2]["message"] == f"line {LINES_MAX - 1} (the last line that this request may log)"
    assert said[-1]["message"] == "another's"


def test_one_request_is_bounded(written: Written) -> None:
    check_one_request_is_bounded(written)


def test_a_log_without_that_bound_is_found_out(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_within_bounds", lambda _: True)
    with pytest.raises(AssertionError):
        check_one_request_is_bounded(written)


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, 'a"', "é", "a\n", "../../x/"])
def test_a_client_names_its_request_plainly_or_not_at_all(name: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", Asked.as_named(name).id)
    assert Asked.as_named("Trace-1_b.c").id == "Trace-1_b.c"


def test_libraries_say_only_what_matters(written: Written) -> None:
    begin("json", "debug", "frontend")
    logging.getLogger("httpx").info("a request")
    logging.getLogger("httpx").warning("a warning")
    assert [each["logger"] for each in objects(written)] == ["httpx"]


NASTY = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *map(chr, (0x2028, 0x2029, 0xD800, 0xDFFF, 0x061C, 0x200E, 0x200F, 0xFEFF, 0xE0041)),
    *map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))),
]
FORGED = "2026-01-01 00:00:00,000 mmplane ERROR forged"


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("nasty", NASTY, ids=lambda nasty: f"U+{ord(nasty):04X}")
def test_what_cannot_be_printed_is_escaped(form: str, nasty: str, written: Written) -> None:
    begin(form, "info", "frontend")
    text = f"before{nasty}{FORGED}"
    log.info("%s", text)
    fail(text)
    log.warning("stacks", extra={"stacks": text})
    said = written()
    if form == "json":
        assert len(said.split("\n")) == 3 + 1
        said = "".join(json.loads(line)[key] for line in said.splitlines() for key in json.loads(line) if key != "pid")
    if nasty != "\n":
        assert nasty not in said.replace("\n", "")
    assert not [line for line in said.splitlines() if line == FORGED]
    assert said.count("forged") >= 3
    said.encode()  # no lone surrogate


def test_text_that_can_be_printed_stays(written: Written) -> None:
    begin("text", "info", "frontend")
    log.info("Überraschung 数字 \\ 🙂")
    assert written().rstrip("\n").endswith(" Überraschung 数字 \\ 🙂")


def test_escapes_do_not_lengthen_a_line(written: Written) -> None:
    begin("text", "info", "frontend")
    log.info("%s", "\U000e0041" * 2 * MESSAGE_CHARACTERS_MAX)
    fail("\U000e0041" * 2 * DETAIL_CHARACTERS_MAX)
    assert len(written()) < DETAIL_CHARACTERS_MAX + 3 * MESSAGE_CHARACTERS_MAX
