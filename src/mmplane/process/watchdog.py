"""The supervisor's watchdog: takes a stalled process out of service, logs its stacks, then kills it.

stopped for `NOTICE_S`                     out of service: `/ready` is false until it, or its successor, works
silent or stopped for too long, or an      condemned: its stacks, and what the kernel says, go to the log
item missed its deadline
`ANSWER_S` later                           killed, whatever it said

It sleeps until a child could have been stalled for too long, and says when that is. If it wakes up much later, it has
been stopped itself, perhaps together with all others (a frozen container). Then all silences begin anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable

from mmplane.process.handle import Child
from mmplane.process.stacks import SIGNAL, STOPPED, WAITING, kernel_side, memory_is_short, state_of

log = logging.getLogger("mmplane")

LOOK_SECONDS = 0.2
CALM_SECONDS = 1.0
"""The time between two checks while nothing is wrong: the nursery reports a stopped child at once."""
ANSWER_S = 0.3
"""How long a condemned process may take to write its stacks."""
SLEEPS_PER_STALL = 5
"""It may sleep, and be late, for this fraction of the limit on silence: less than what is left after a heartbeat."""


class Watchdog:
    """Checks children. The limits in seconds are for silence, for an item in a worker, and for getting ready."""

    def __init__(
        self, *, stall_s: float, item_s: float, load_s: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = now
        self._stall_s = stall_s
        self._item_s = item_s
        self._load_s = load_s
        self._looked_s = float("-inf")
        self._due_s = float("inf")
        self._still: set[str] = set()

    @property
    def out_of_service(self) -> tuple[str, ...]:
        """Names of children that are stalled, or have no working successor yet."""
        return tuple(sorted(self._still))

    def due_s(self, children: Iterable[Child]) -> float:
        """When to check again, at the latest."""
        self._due_s = self._looked_s + self._interval_s(children)
        return self._due_s

    def look(self, children: Collection[Child]) -> None:
        """Check the children. Call it whenever something happens, and when it is due."""
        now_s = self._now()
        if now_s - self._looked_s < self._interval_s(children):
            return
        woke_late = now_s - self._due_s > self._stall_s / SLEEPS_PER_STALL
        self._looked_s = now_s
        for child in children:
            if stacks := child.stacks.written():
                log.warning("stacks of %s", child, extra={"stacks": stacks})
            if woke_late:
                child.stillness.resumed(now_s)
            if child.stillness.doubtful(now_s, self._stall_s):  # the nursery reports the others
                state = state_of(child.handle.pid)
                starved = state == WAITING and memory_is_short()
                child.stillness.seen(now_s, stopped=state in STOPPED, starved=starved)
            self._note(child, now_s)
            self._judge(child, now_s)

    def _interval_s(self, children: Iterable[Child]) -> float:
        wrong = self._still or any(
            child.condemned_s is not None or not child.ready or child.stillness.doubtful(self._looked_s, self._stall_s)
            for child in children
        )
        return LOOK_SECONDS if wrong else min(CALM_SECONDS, self._stall_s / SLEEPS_PER_STALL)

    def condemn(self, child: Child, why: str) -> None:
        """Have it write its stacks, and kill it soon."""
        if child.condemned_s is None:
            child.condemned_s = self._now()
            log.warning("%s %s; killing it", child, why, extra={"stacks": kernel_side(child.handle.pid)})
            child.handle.signal(SIGNAL)

    def _note(self, child: Child, now_s: float) -> None:
        if child.stillness.noticed(now_s, self._stall_s):
            self._still.add(child.name)
        elif child.ready and child.condemned_s is None:
            self._still.discard(child.name)

    def _judge(self, child: Child, now_s: float) -> None:
        if child.condemned_s is not None:
            if now_s - child.condemned_s > ANSWER_S:
                child.handle.kill()
            return
        still_s = child.stillness.over(now_s, silent_s=self._silent_s(child), stall_s=self._stall_s)
        if still_s is not None:
            self.condemn(child, f"has made no progress for {still_s:.1f} s{_hint(child)}")

    def _silent_s(self, child: Child) -> float:
        if not child.ready:
            return self._load_s
        return self._stall_s + (self._item_s if child.role == "worker" else 0.0)


def _hint(child: Child) -> str:
    """What the operator can do if the limit is the only problem."""
    if not child.ready:
        return " and is not ready (if the model takes longer to load, raise --load-seconds)"
    if child.computing:
        return " in one step or item (if the model is slow, raise --compute-stall-seconds)"
    return ""
