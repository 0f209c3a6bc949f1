"""Whether a plugin is on, why not, and that nothing escapes from its `load`."""

from __future__ import annotations

import kit_engine
import pytest
from kit_wrappers import HOOKS

from mmplane.engines.kit import plugin
from mmplane.engines.kit.applying import apply
from mmplane.engines.kit.plugin import Plugin
from mmplane.engines.kit.verdict import Verdict, judge

TESTED = ("0.5.20", "0.5.22", "0.5.23")
ON = {"tested": Verdict(True, "tested"), "works": Verdict(True, "works by self-test")}


def verdict(version: str, allowed: str = "LET", trouble: str | None = None) -> Verdict:
    return judge("Engine", version, tested=TESTED, allowed=allowed, check=lambda: trouble)


@pytest.mark.parametrize("version", ["0.5.20", "0.5.22", "0.5.23", "0.5.23+cu130"])
def test_tested_versions(version: str) -> None:
    assert verdict(version) == ON["tested"]
    assert verdict(version, trouble="broken") == Verdict(False, "broken")


@pytest.mark.parametrize("version", ["0.5.21", "0.5.22.post1", "0.5.23rc1", "0.5.23.post2+cpu"])
def test_versions_between(version: str) -> None:
    assert verdict(version) == ON["works"]
    assert verdict(version, trouble="broken") == Verdict(False, "broken")


@pytest.mark.parametrize("version", ["0.5.24", "0.5.23.1", "0.6", "1.0.0.dev1", "0.10.1"])
def test_newer_versions_must_be_allowed(version: str) -> None:
    refused = verdict(version)
    assert not refused.is_on
    assert "set LET=1" in refused.says
    assert verdict(version, allowed="") == ON["works"]
    assert verdict(version, allowed="", trouble="broken") == Verdict(False, "broken")


@pytest.mark.parametrize("version", ["0.5.19", "0.4.99", "unknown", ""])
def test_older_ones_and_what_is_no_version_are_off(version: str) -> None:
    assert not verdict(version).is_on
    assert not verdict(version, allowed="").is_on


def of(hooks: str = "kit_wrappers.HOOKS", self_test: str | None = None, tested: tuple[str, ...] = ("1.2.3",)) -> Plugin:
    return Plugin("Kit", "kit_engine", tested, hooks, self_test)


def test_load_applies_the_hooks(caplog: pytest.LogCaptureFixture) -> None:
    applied = []
    of(self_test="kit_engine.self_test_passes").load(lambda hooks: applied.append(apply(hooks)))
    assert kit_engine.build(1) == ("wrapped", "1 red")
    applied[0]()
    assert not caplog.records


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (of(tested=("1.3.0",)), "Kit 1.2.3 is older than what is supported: 1.3.0"),
        (of(tested=("1.2.2",)), "Kit 1.2.3 is newer than what is tested (1.2.2): set MMPLANE_KIT_UNTESTED=1 to try it"),
        (of("kit_wrappers.BROKEN"), "this engine lacks what is hooked: kit_engine.Engine.retired"),
        (of("kit_wrappers.NOTHING"), "this Kit lacks what is hooked"),
        (of("kit_nothing.HOOKS"), "this Kit lacks what is hooked"),
        (of(self_test="kit_engine.self_test_fails"), "the self-test failed: 3 bytes of 4"),
        (of(self_test="kit_engine.self_test_raises"), "the self-test failed (RuntimeError: no such codec)"),
        (Plugin("Kit", "kit_nothing", ("1",), "kit_wrappers.HOOKS"), "Kit cannot be imported"),
    ],
)
def test_what_does_not_fit_is_said_once(
    made: Plugin, said: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMPLANE_KIT_SAID", "")
    for _ in range(2):  # as in this process and in a child
        made.load(apply)
    assert kit_engine.build(1) == "1 red"
    (record,) = caplog.records
    assert record.getMessage().startswith(f"mmplane: off: {said}")


def test_what_the_engine_raises_does_not_escape(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMPLANE_KIT_SAID", "")

    def refuse(hooks: object) -> None:
        raise MemoryError("no")

    of().load(refuse)
    assert [record.getMessage() for record in caplog.records] == ["mmplane: off: MemoryError: no"]


def test_an_untested_version_is_allowed_by_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    made = of(tested=("1.2.2",), self_test="kit_engine.self_test_passes")
    assert not made.verdict().is_on
    monkeypatch.setenv(made.variable(plugin.UNTESTED), "1")
    assert made.verdict() == ON["works"]
    monkeypatch.setattr(kit_engine, "self_test_passes", kit_engine.self_test_fails)
    assert not made.verdict().is_on
    assert len(made.table()) == len(HOOKS)
