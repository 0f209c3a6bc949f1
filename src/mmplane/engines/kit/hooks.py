"""A table of an engine's functions to wrap, and a check that this engine has them with the expected signatures.

    HOOKS = (
        Hook("sglang.srt.managers.scheduler.Scheduler._get_multimodal_inputs", rank.build_inputs),
        Hook("sglang.srt.entrypoints.engine.Engine.shutdown", launcher.shutdown, optional=True),
    )

A wrapper is called with the original function first, followed by the arguments: `wrapper(original, self, ...)`. For a
class method the original is the plain function, so it is called as `original(cls, ...)`. The wrapper's own signature
defines what it expects: after `original` it lists the target's first parameters, in order, and takes the others as
`*args, **kwargs`. If the target has other names or more parameters than the wrapper can take, this is detected before
anything is wrapped.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Hook:
    """One function to wrap.

    `target` is the dotted path of a module's function, a method, a class method, a static method or an inherited
    method. `needs` names parameters that the wrapper takes out of `*args, **kwargs`. An `optional` hook is left out if
    the target does not exist; a target that exists must still have the expected signature.
    """

    target: str
    wrapper: Callable[..., Any]
    needs: tuple[str, ...] = ()
    optional: bool = False


def existing(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
    """Return all hooks except optional ones whose targets this engine does not have."""
    return tuple(hook for hook in hooks if not hook.optional or _exists(hook.target))


def problem(hooks: Iterable[Hook]) -> str | None:
    """Return why these hooks cannot all be applied: a target is missing or has another signature. None if they can."""
    return next(filter(None, map(_problem, existing(hooks))), None)


def function_at(target: str) -> Callable[..., Any]:
    """Return the plain function at this path, because a bound method would be a new object each time.

    Raises ImportError or AttributeError if there is nothing.
    """
    found = pkgutil.resolve_name(target)
    function: Callable[..., Any] = getattr(found, "__func__", found)
    return function


def _exists(target: str) -> bool:
    try:
        function_at(target)
    except (ImportError, AttributeError):
        return False
    return True


def _problem(hook: Hook) -> str | None:
    try:
        target = function_at(hook.target)
    except (ImportError, AttributeError) as error:
        return f"this engine lacks what is hooked: {hook.target} ({error})"
    if isinstance(target, type) or not callable(target):
        return f"{hook.target} is not a function"
    try:
        theirs = list(inspect.signature(target).parameters.values())
    except ValueError:
        return f"{hook.target} has no signature"
    mismatch = _mismatch(theirs, list(inspect.signature(hook.wrapper).parameters.values())[1:], hook.needs)
    return None if mismatch is None else f"{hook.target} has another signature: {mismatch}"


def _mismatch(theirs: list[Parameter], ours: list[Parameter], needs: tuple[str, ...]) -> str | None:
    """Describe how the target's parameters differ from those that the wrapper takes."""
    named = [one for one in ours if one.kind in _POSITIONAL]
    first = [one.name for one in theirs if one.kind in _POSITIONAL][: len(named)]
    if first != [one.name for one in named]:
        return f"it begins with ({', '.join(first)}), expected ({', '.join(one.name for one in named)})"
    missing = {*needs} - {one.name for one in theirs}
    if missing:
        return f"it has no parameter {', '.join(sorted(missing))}"
    kinds = {one.kind for one in ours}
    takes_all = {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD} <= kinds
    keywords = {one.name for one in ours if one.kind is Parameter.KEYWORD_ONLY}
    others = [one for one in theirs if one.name not in first and one.name not in keywords]
    if others and not takes_all:
        return f"it has a parameter {others[0].name}, which the wrapper does not take"
    return None
