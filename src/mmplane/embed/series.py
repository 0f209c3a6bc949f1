"""Many items in order, one hold after the other. Some are made ahead, and fewer if there is no room."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import chain

from mmplane.embed.errors import Full, SidecarError
from mmplane.embed.hold import SidecarHold
from mmplane.embed.wanted import Wanted

AHEAD, AHEAD_PER_WORKER = 16, 2
"""How many items are requested at a time, and how many for each worker if there are many to keep busy."""


def in_order(
    medias: Iterable[Wanted],
    begin: Callable[[Wanted], Future[SidecarHold]],
    wait: Callable[[Future[SidecarHold]], SidecarHold],
    *,
    ahead: int,
    failures: bool,
) -> Iterator[SidecarHold | SidecarError]:
    """The result of `begin` and `wait` for each item; at most `ahead` are begun before the caller needs them.

    With `failures`, an item's error is returned in its place instead of raised.
    """
    waiting: deque[tuple[Wanted, Future[SidecarHold]]] = deque()
    rest = iter(medias)
    while True:
        while len(waiting) < max(1, ahead) and (wanted := next(rest, None)) is not None:
            waiting.append((wanted, _begun(begin, wanted)))
        if not waiting:
            return
        wanted = waiting[0][0]
        try:
            yield wait(waiting.popleft()[1])  # without a name here, because a failed future would keep this frame alive
        except Full as full:
            if ahead > 1:  # try again with half as many in parallel, finally alone
                ahead //= 2
                for _, begun in waiting:
                    begun.cancel()
                rest = chain([wanted], [each for each, _ in waiting], rest)
                waiting.clear()
            elif not failures:
                raise
            else:
                yield full
        except SidecarError as error:
            if not failures:
                raise
            yield error


def _begun(begin: Callable[[Wanted], Future[SidecarHold]], wanted: Wanted) -> Future[SidecarHold]:
    """An immediate error belongs to that item, like a later one."""
    try:
        return begin(wanted)
    except SidecarError as error:
        failed: Future[SidecarHold] = Future()
        failed.set_exception(error)
        return failed
