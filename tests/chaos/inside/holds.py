"""Holds, inside the server under test: a process that comes to a stage waits there while a test says so.

A test arms a hold by a file `STAGE ROLE`. The first process of that role that comes to that stage renames it to
`held STAGE PID`, which exactly one can, and goes on when that file is gone. So the test knows without guessing which
process is in the middle of what. The server's own code has no hook for this: its functions are wrapped here.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import setproctitle

POLL_S = 0.005
LIMIT_S = 120.0
"""A test that has died holds nobody for longer."""

FOLDER = Path(os.environ["MMPLANE_TEST_HOLDS"])


def role() -> str:
    """What this process is: `frontend`, `parser`, `worker`, `leader` or `follower`."""
    kind, _, rest = setproctitle.getproctitle().removeprefix("mmplane: ").partition(" ")
    if kind != "rank":
        return kind
    return "leader" if rest.startswith("0/") else "follower"


def holding(stage: str) -> Iterator[None]:
    """One step for each poll that has to be waited for: none unless a hold was armed for this stage and role."""
    held = FOLDER / f"held {stage} {os.getpid()}"
    try:
        (FOLDER / f"{stage} {role()}").rename(held)
    except FileNotFoundError:
        return
    deadline_s = time.monotonic() + LIMIT_S
    while held.exists() and time.monotonic() < deadline_s:
        yield


def hold(stage: str) -> None:
    """Wait here, and the whole process with it."""
    for _ in holding(stage):
        time.sleep(POLL_S)


async def hold_task(stage: str) -> None:
    """Wait here, and only this request."""
    for _ in holding(stage):
        await asyncio.sleep(POLL_S)


def before(owner: Any, name: str, stage: str | Callable[..., set[str]]) -> None:
    """Hold at the beginning of a function; of a coroutine, its request alone. `stage` may be told by its arguments."""
    inner = getattr(owner, name)

    def stages(*arguments: Any, **more: Any) -> set[str]:
        return {stage} if isinstance(stage, str) else stage(*arguments, **more)

    @functools.wraps(inner)
    def outer(*arguments: Any, **more: Any) -> Any:
        for each in stages(*arguments, **more):
            hold(each)
        return inner(*arguments, **more)

    @functools.wraps(inner)
    async def outer_task(*arguments: Any, **more: Any) -> Any:
        for each in stages(*arguments, **more):
            await hold_task(each)
        return await inner(*arguments, **more)

    setattr(owner, name, outer_task if inspect.iscoroutinefunction(inner) else outer)


def after(owner: Any, name: str, stage: str) -> None:
    """Hold at the end of a function, before its caller has its result."""
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def outer(*arguments: Any, **more: Any) -> Any:
        result = inner(*arguments, **more)
        hold(stage)
        return result

    setattr(owner, name, outer)


def of_step(_: Any, step: Any) -> set[str]:
    """The stages of requests that a step computes for."""
    return {"generate" if segment.tokens else "prefill" for segment in step.segments}


def install() -> None:
    """Wrap what stages consist of. A name that is gone is an error at once."""
    from mmplane.delivery.object_collective import ObjectBroadcast
    from mmplane.features.families.table import TableImageProcessor
    from mmplane.frontend.chat import preparation
    from mmplane.frontend.http.reply import Reply
    from mmplane.frontend.request import parser
    from mmplane.frontend.request.bodies import Bodies
    from mmplane.frontend.request.intake import Intake
    from mmplane.items.pool import Pool
    from mmplane.media import image, worker
    from mmplane.ranks.model.null import NullRunner
    from mmplane.ranks.model.runner import Runner
    from mmplane.ranks.plan.leader import Leader
    from mmplane.ranks.plan.member import Member
    from mmplane.waiting.budget import Budget

    before(Budget, "admit", "queue")
    before(Bodies, "parse", "body")
    before(parser, "answer", "parse")
    before(Intake, "_contents", "fetch")
    before(Intake, "_key", "key")
    before(Intake, "_recipe", "probe")
    before(preparation, "expand", "prompt")
    before(Pool, "idle", "slot_wait")
    before(image, "decode", "decode")
    before(TableImageProcessor, "write", "transform")
    after(worker.Jobs, "_materialise", "handoff")
    before(Leader, "submit", "admission")
    before(ObjectBroadcast, "__call__", "collective")
    before(Member, "advance", "deliver")
    for runner in (Runner, NullRunner):
        before(runner, "prepare", "encode")
        before(runner, "run", of_step)
    before(Reply, "whole", "reply")
