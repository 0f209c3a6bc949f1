"""Wraps an engine's functions, for engines that have no registry of hooks.

The name in the target's path is replaced. A module that has imported the function by name keeps the original, so the
target must be the name in the calling module (`vllm.renderers.base.processor_cache_from_config`).
"""

from __future__ import annotations

import functools
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from mmplane.engines.kit.hooks import Hook, existing

_WRAPPER = "__mmplane__"


def apply(hooks: Iterable[Hook]) -> Callable[[], None]:
    """Wrap all targets, or none: if one fails, restore those before it and raise its exception.

    A target that is already wrapped by the same wrapper, for example after a fork, stays as it is. Returns a function
    that restores what this call has wrapped.
    """
    with ExitStack() as undo:
        for hook in existing(hooks):
            _apply(hook, undo)
        return undo.pop_all().close
    raise AssertionError("an ExitStack does not swallow exceptions")


def _apply(hook: Hook, undo: ExitStack) -> None:
    path, _, name = hook.target.rpartition(".")
    owner = pkgutil.resolve_name(path)
    found = inspect.getattr_static(owner, name)
    kind = type(found) if isinstance(found, classmethod | staticmethod) else None
    original = found.__func__ if kind else found
    if not inspect.isroutine(original):
        raise TypeError(f"{hook.target} is not a function")
    if getattr(original, _WRAPPER, None) is hook.wrapper:
        return
    wrapped = _wrapped(original, hook.wrapper)
    own = name in vars(owner)
    setattr(owner, name, kind(wrapped) if kind else wrapped)
    # An inherited method was not in the class, and must not be there afterwards.
    undo.callback(setattr, owner, name, found) if own else undo.callback(delattr, owner, name)


def _wrapped(original: Callable[..., Any], wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """Return the replacement of the original: a coroutine function if the original is one."""
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            return await wrapper(original, *args, **kwargs)
    else:

        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            return wrapper(original, *args, **kwargs)

    setattr(wrapped, _WRAPPER, wrapper)
    return wrapped
