"""Which functions an engine has as they are expected; wrapping them all, or none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import kit_engine
import pytest
from kit_engine import Base, Derived, Engine
from kit_wrappers import HOOKS, around, build, fetch, launch, send

from mmplane.engines.kit import applied
from mmplane.engines.kit.applying import apply
from mmplane.engines.kit.hooks import Hook, existing, problem


def test_a_table_that_fits() -> None:
    assert problem(HOOKS) is None
    assert [hook.target for hook in HOOKS if hook not in existing(HOOKS)] == ["kit_engine.Engine.retired"]


def only_size(original: Callable[..., Any], size: int) -> Any:
    return original(size)


def by_keyword(original: Callable[..., Any], size: int, *, colour: str) -> Any:
    return original(size, colour=colour)


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        (Hook("kit_engine.Engine.retired", around), "lacks what is hooked: kit_engine.Engine.retired"),
        (Hook("kit_nothing.build", around), "lacks what is hooked: kit_nothing.build"),
        (Hook("kit_engine.NOT_A_FUNCTION", around), "is not a function"),
        (Hook("kit_engine.Engine", around), "is not a function"),
        (Hook("kit_engine.Engine.send", build), "it begins with (self), expected (size)"),
        (Hook("kit_engine.build", send), "it begins with (size), expected (self, message)"),
        (Hook("kit_engine.build", only_size), "it has a parameter colour, which the wrapper does not take"),
        (Hook("kit_engine.Engine.send", launch), "it begins with (self, message), expected (cls, count)"),
        (Hook("kit_engine.Engine.send", around, needs=("engine", "group")), "it has no parameter group"),
        (Hook("kit_engine.Engine.send", build, optional=True), "expected (size)"),
    ],
)
def test_a_hook_that_does_not_fit(hook: Hook, said: str) -> None:
    assert said in (problem([*HOOKS, hook]) or "")


@pytest.mark.parametrize("wrapper", [build, by_keyword, around])
def test_wrappers_that_take_all_parameters(wrapper: Callable[..., Any]) -> None:
    trouble = problem([Hook("kit_engine.build", wrapper)])
    assert (trouble is None) == (wrapper is not build), "`**kwargs` alone would lose a parameter passed by position"


def test_every_kind_of_function_is_wrapped_and_restored() -> None:
    originals = [dict(vars(owner)) for owner in (kit_engine, Engine, Derived, Base)]
    undo = apply(HOOKS)
    assert kit_engine.build(3, colour="blue") == ("wrapped", "3 blue")
    assert asyncio.iscoroutinefunction(kit_engine.fetch)
    assert asyncio.run(kit_engine.fetch("it")) == "wrapped fetched it"
    assert Engine("a").send("hello", engine=2) == "wrapped A hello 2"
    assert (Engine.launch(4), Derived.launch(5)) == ("wrapped Engine 4", "wrapped Derived 5")
    assert (Engine.plan(2), Derived("b").plan(3)) == (("wrapped", 4), ("wrapped", 6))
    assert Derived("b").inherited("x") == ("wrapped", "Derived x")
    assert Base().inherited("x") == "Base x", "the base class is not touched"
    undo()
    assert [dict(vars(owner)) for owner in (kit_engine, Engine, Derived, Base)] == originals


def test_a_second_application_changes_nothing() -> None:
    undo = apply(HOOKS)
    again = apply(HOOKS)
    assert kit_engine.build(1) == ("wrapped", "1 red")
    again()
    assert kit_engine.build(1) == ("wrapped", "1 red")
    undo()
    assert kit_engine.build(1) == "1 red"


@pytest.mark.parametrize("last", ["kit_engine.Engine.retired", "kit_engine.NOT_A_FUNCTION", "kit_engine.Engine"])
def test_all_are_wrapped_or_none(last: str) -> None:
    with pytest.raises((AttributeError, TypeError)):
        apply([*HOOKS, Hook(last, around)])
    assert kit_engine.build(1) == "1 red"
    assert "inherited" not in vars(Derived)


def test_whether_they_took() -> None:
    applied._originals.clear()
    applied.remember(HOOKS)
    assert len(applied.missing()) == len(HOOKS) - 1
    undo = apply([hook for hook in HOOKS if hook.wrapper is not fetch])
    applied.remember(HOOKS)  # loaded twice: what it was at first counts
    assert applied.missing() == ["kit_engine.fetch"]
    undo()
