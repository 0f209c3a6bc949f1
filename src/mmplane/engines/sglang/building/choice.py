"""In a tokenizer process: chooses the design of the next request. Its name travels in the message to all ranks.

This makes the switch safe (C4): it takes effect between two messages, which reach all ranks in the same order, and
requests in flight finish with their own design.
"""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from mmplane.engines.sglang.designs.design import Design
from mmplane.engines.sglang.designs.names import DESIGNS
from mmplane.frontend.send.rollout import Rollout

VARIABLE = "MMPLANE_SGLANG_DESIGN"
MARK = "mmplane_design"
"""The field of SGLang's items that carries the name: among model-specific values, until a rank removes it."""
THREADS = 4
"""The threads of B2."""


class Choice:
    """A tokenizer process's choice: one design for all requests, or another one for a share of them."""

    def __init__(self, name: str) -> None:
        self.rollout = Rollout(name)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mmplane-design")
        self._room = asyncio.Semaphore(THREADS)

    async def mark(self, mm_inputs: Any) -> Design:
        """Choose for one request, do the design's work before sending, and write the name into the request's items.

        Features on a GPU are not handled by designs.
        """
        items = mm_inputs.mm_items
        design = DESIGNS[self.rollout.choose() if all(map(_is_local, items)) else "default"]
        async with self._room:
            await asyncio.get_running_loop().run_in_executor(self._threads, design.finish, items)
        mm_inputs.mm_items = [_marked(items[0], design.name), *items[1:]]
        return design


def wanted() -> str | None:
    """The design that this server was started with, or None if it is unknown."""
    name = os.environ.get(VARIABLE)
    return name if name in DESIGNS else None


def problem() -> str | None:
    """Describe an error in the setting, if there is one."""
    if os.environ.get(VARIABLE) and wanted() is None:
        return f"{VARIABLE} must be one of {', '.join(DESIGNS)}: no design is used"
    return None


@cache
def current() -> Choice | None:
    """This process's choice, or None if the server was started without a design."""
    name = wanted()
    return None if name is None else Choice(name)


async def goes_by_arena(mm_inputs: Any) -> bool:
    """Choose for a request, and return whether its features go into the arena. Without a design all of them do."""
    choice = current()
    if choice is None or not mm_inputs.mm_items:
        return choice is None
    return (await choice.mark(mm_inputs)).in_arena


def taken(mm_inputs: Any) -> str | None:
    """On a rank: remove the name from a message's items and return it, or None if no known design is named."""
    items: Sequence[Any] = getattr(mm_inputs, "mm_items", ())
    if not items or MARK not in items[0].model_specific_data:
        return None
    name = items[0].model_specific_data.pop(MARK)
    return name if name in DESIGNS else None


def _is_local(item: Any) -> bool:
    return bool(getattr(item.feature, "is_cpu", True))


def _marked(item: Any, name: str) -> Any:
    """Copy the item, because SGLang may keep it for other requests."""
    marked = copy.copy(item)
    marked.model_specific_data = item.model_specific_data | {MARK: name}
    return marked
