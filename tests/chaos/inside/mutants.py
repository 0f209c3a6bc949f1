"""What the kill matrix must find out, broken on purpose in the server under test while a file names it."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

FILE = Path(os.environ["MMPLANE_TEST_MUTANT"])


def mutant(owner: Any, name: str, called: str) -> Callable[[Callable[..., Any]], None]:
    """Use the decorated function, which gets the original first, while the mutant of that name is on."""
    original = getattr(owner, name)

    def decorate(broken: Callable[..., Any]) -> None:
        def either(*arguments: Any, **more: Any) -> Any:
            if FILE.read_text() == called:
                return broken(original, *arguments, **more)
            return original(*arguments, **more)

        setattr(owner, name, either)

    return decorate


def install() -> None:
    """In the supervisor, and in the nursery for those that it forks."""
    from mmplane.arena.arena import Arena
    from mmplane.process.handle import Child

    @mutant(Arena, "reaped", "the dead keep what they held")
    def keep(*_: Any) -> None:
        pass

    kept = []

    @mutant(Child, "close", "links of the dead stay open")
    def leave_open(_: Any, child: Any) -> None:
        kept.append(child.link)  # else it is closed when nobody refers to it
        child.handle.reap()

    misses = count()

    @mutant(Arena, "lookup", "others' pictures")
    def cross(original: Any, arena: Any, key: bytes) -> Any:
        """Every third miss finds what was published last."""
        found = original(arena, key)
        if found is None and next(misses) % 3 == 0:
            return next(reversed(arena._items.values()), None)
        return found
