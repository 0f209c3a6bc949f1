"""Checks that the functions in a table are wrapped: an engine that applies hooks itself may only log a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mmplane.engines.kit.hooks import Hook, existing, function_at

_originals: dict[str, Callable[..., object]] = {}


def remember(hooks: Iterable[Hook]) -> None:
    """Remember the targets as they are before they are wrapped."""
    for hook in existing(hooks):
        _originals.setdefault(hook.target, function_at(hook.target))


def missing() -> list[str]:
    """Return the targets that have not changed since they were remembered."""
    return [target for target, original in _originals.items() if function_at(target) is original]
