"""In a tokenizer process: which design the next request takes. The name travels in the message, so all ranks know it.

That is the agreement (C4): a switch takes effect between two messages, which come to all ranks in one order, and what
is on its way ends as it began.
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
"""Where an item of SGLang's carries the name: among what is specific to a model, until a rank takes it out."""
THREADS = 4
"""B2's."""


class Choice:
    """A tokenizer process's choice, one for all requests or another for a share of them."""

    def __init__(self, name: str) -> None:
        self.rollout = Rollout(name)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mmplane-design")
        self._room = asyncio.Semaphore(THREADS)

    async def mark(self, mm_inputs: Any) -> Design:
        """Choose for one request, do what its design does before it is sent, and write the name into its items.

        Features on a GPU are no business of the designs: they go as without them.
        """
        items = mm_inputs.mm_items
        design = DESIGNS[self.rollout.choose() if all(map(_is_local, items)) else "default"]
        async with self._room:
            await asyncio.get_running_loop().run_in_executor(self._threads, design.finish, items)
        mm_inputs.mm_items = [_marked(items[0], design.name), *items[1:]]
        return design


def wanted() -> str | None:
    """The design that this server was started with; None where it is none that is known."""
    name = os.environ.get(VARIABLE)
    return name if name in DESIGNS else None


def problem() -> str | None:
    """What is wrong with the setting, if it is."""
    if os.environ.get(VARIABLE) and wanted() is None:
        return f"{VARIABLE} must be one of {', '.join(DESIGNS)}: no design is used"
    return None


@cache
def current() -> Choice | None:
    """This process's choice; None where the server was started without a design."""
    name = wanted()
    return None if name is None else Choice(name)


async def goes_by_arena(mm_inputs: Any) -> bool:
    """Choose for a request, and whether its features shall go into the arena. Without a design all of them do."""
    choice = current()
    if choice is None or not mm_inputs.mm_items:
        return choice is None
    return (await choice.mark(mm_inputs)).in_arena


def taken(mm_inputs: Any) -> str | None:
    """On a rank: take the name out of what a message brought. None where it names no design that is known here."""
    items: Sequence[Any] = getattr(mm_inputs, "mm_items", ())
    if not items or MARK not in items[0].model_specific_data:
        return None
    name = items[0].model_specific_data.pop(MARK)
    return name if name in DESIGNS else None


def _is_local(item: Any) -> bool:
    return bool(getattr(item.feature, "is_cpu", True))


def _marked(item: Any, name: str) -> Any:
    """A copy: SGLang may keep the item for other requests."""
    marked = copy.copy(item)
    marked.model_specific_data = item.model_specific_data | {MARK: name}
    return marked
