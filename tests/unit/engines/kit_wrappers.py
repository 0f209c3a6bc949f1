"""Wrappers for `kit_engine`, and tables of hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmplane.engines.kit.hooks import Hook


def build(original: Callable[..., str], size: int, **kwargs: Any) -> str:
    return "wrapped " + original(size, **kwargs)


def around(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return ("wrapped", original(*args, **kwargs))


async def fetch(original: Callable[..., Any], name: str) -> str:
    return "wrapped " + await original(name)


def send(original: Callable[..., str], self: Any, message: str, *args: Any, **kwargs: Any) -> str:
    return "wrapped " + original(self, message, *args, **kwargs)


def begin(original: Callable[..., None], self: Any, name: str) -> None:
    original(self, name.upper())


def launch(original: Callable[..., str], cls: type, count: int) -> str:
    return "wrapped " + original(cls, count)


HOOKS = (
    Hook("kit_engine.build", around),
    Hook("kit_engine.fetch", fetch),
    Hook("kit_engine.Engine.send", send, needs=("engine",)),
    Hook("kit_engine.Engine.launch", launch),
    Hook("kit_engine.Engine.plan", around),
    Hook("kit_engine.Derived.inherited", around),
    Hook("kit_engine.Engine.__init__", begin),
    Hook("kit_engine.Engine.retired", around, optional=True),
)
BROKEN = (*HOOKS, Hook("kit_engine.Engine.retired", around))
