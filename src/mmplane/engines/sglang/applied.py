"""Whether SGLang has wrapped what was registered: it only logs when it fails to."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable

_originals: dict[str, object] = {}


def remember(targets: Iterable[str]) -> None:
    """What the targets are before SGLang wraps them."""
    _originals.update({target: _function(target) for target in targets})


def missing() -> list[str]:
    """The targets that are still what they were."""
    return [target for target, original in _originals.items() if _function(target) is original]


def _function(target: str) -> object:
    """The function itself: a bound method is a new object each time."""
    found = pkgutil.resolve_name(target)
    return getattr(found, "__func__", found)
