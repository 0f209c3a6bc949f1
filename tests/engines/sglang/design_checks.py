"""Runs inside SGLang's environment, without a server: `python design_checks.py`. One JSON line for each check.

Two processes in a gloo group, each with the plugin's hooks around SGLang's own scheduler methods, and messages that
went through SGLang's own encoding. What stands in is the scheduler's queue: it records what is handled.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import multiprocessing
import os
import pickle
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec
import torch
import torch.distributed as dist
from sglang.srt.managers.io_struct import AbortReq, TokenizedGenerateReqInput
from sglang.srt.managers.schedule_batch import (
    Modality,
    MultimodalDataItem,
    MultimodalInputs,
    MultimodalProcessorOutput,
)
from sglang.srt.managers.scheduler import Scheduler, _MultimodalInputProcessingError
from sglang.srt.utils.msgpack_utils import enc_hook, ext_hook

from mmplane.core.faults import Fault
from mmplane.engines.sglang import hooks, tokenizer
from mmplane.engines.sglang.building import building as module
from mmplane.engines.sglang.building import choice, step
from mmplane.engines.sglang.designs.names import DESIGNS

LIMIT_S = 60
RANKS = 2
BY_LEADER = ("leader", "leader-batch", "leader-async")
SHARED = (*BY_LEADER, "delayed", "delayed-async")
FAULTS = {f"{point} {rank}": Fault(point, rank) for point in ("materialise", "in_collective") for rank in range(RANKS)}
KINDS = ("before", *FAULTS, "after")
"""Of requests: each has pictures of its own, the same in every design."""
ITEMS = 2


def sent(kind: str, design: str) -> TokenizedGenerateReqInput:
    """A request with two pictures, marked in a tokenizer process and through SGLang's encoding."""
    items = [
        MultimodalDataItem(
            modality=Modality.IMAGE,
            feature=torch.full((6, 8), float(ITEMS * KINDS.index(kind) + at)),
            offsets=[(4 * at, 4 * at + 1)],
            model_specific_data={"image_grid_thw": torch.tensor([(1, 2, 3)])},
        )
        for at in range(ITEMS)
    ]
    fields = {f.name: None for f in msgspec.structs.fields(TokenizedGenerateReqInput) if f.required}
    mm_inputs = MultimodalProcessorOutput(mm_items=items)
    asyncio.run(choice.Choice(design).mark(mm_inputs))
    wire = msgspec.msgpack.encode(mm_inputs, enc_hook=enc_hook)
    mm_inputs = msgspec.msgpack.decode(wire, type=MultimodalProcessorOutput, ext_hook=ext_hook)
    return pickle.loads(pickle.dumps(TokenizedGenerateReqInput(**fields | {"rid": kind, "mm_inputs": mm_inputs})))


class Rank:
    """A scheduler that handles nothing but multimodal inputs."""

    def __init__(self, rank: int) -> None:
        self.dp_tp_cpu_group = dist.group.WORLD
        self.dp_tp_group = SimpleNamespace(world_size=RANKS, rank_in_group=rank, first_rank=0, ranks=[0, 1])
        self.model_config = SimpleNamespace(requires_mm_token_modalities=False)
        self.handled: dict[str, str] = {}
        self.hashed = 0

    def _get_multimodal_inputs(self, mm_inputs: Any) -> Any:
        return Scheduler._get_multimodal_inputs(self, mm_inputs)

    def _request_dispatcher(self, request: Any) -> None:
        """As `handle_generate_request` does: the inputs, or their failure."""
        try:
            inputs = self._get_multimodal_inputs(request.mm_inputs)
        except _MultimodalInputProcessingError as error:
            self.handled[request.rid] = f"failed: {error}"
            return
        assert isinstance(inputs, MultimodalInputs)
        assert all(choice.MARK not in item.model_specific_data for item in inputs.mm_items)
        self.handled[request.rid] = repr(
            [(tuple(item.feature.shape), float(item.feature[0, 0]), item.pad_value) for item in inputs.mm_items]
        )

    def step(self, *messages: Any) -> None:
        def original(_self: Any, messages: list[Any]) -> None:
            for message in messages:
                self._request_dispatcher(message)

        step.process(original, self, list(messages))

    def until_empty(self) -> None:
        while not self.mmplane_building.is_empty:
            step.sleep(lambda _self: None, self)
            self.step()

    def take(self, *messages: Any) -> dict[str, Any]:
        """What becomes of these requests, and how many items are hashed here."""
        self.handled, self.hashed = {}, 0
        original = MultimodalDataItem.set_hash

        def set_hash(item: Any, value: int) -> None:
            self.hashed += 1
            original(item, value)

        with patch.object(MultimodalDataItem, "set_hash", set_hash):
            self.step(*messages[:3])
            self.step(*messages[3:])
            self.until_empty()
        return {"handled": self.handled, "hashed": self.hashed}


def program(number: int) -> dict[str, Any]:
    """What one rank saw: by design, and of an aborted request."""
    rank = Rank(number)
    order_of = module.order_of
    without_flag = SimpleNamespace(enable_broadcast_mm_inputs_process=False)
    with (
        patch.object(module, "order_of", lambda at, one: replace(order_of(at, one), fault=FAULTS.get(one.rid))),
        patch("sglang.srt.managers.scheduler.get_mm", return_value=without_flag),
    ):
        found = {design: rank.take(*(sent(kind, design) for kind in KINDS)) for design in DESIGNS}
        rank.handled = {}
        rank.step(sent("before", "leader-async"), sent("after", "delayed-async"))
        seen: list[dict[str, str]] = []
        step.abort(lambda _self, _asked: seen.append(dict(rank.handled)), rank, AbortReq(rid="bef"))
        rank.until_empty()
        found["abort"] = {"seen": seen, "handled": rank.handled}
    return found


def child(number: int, store: str, answer: Any) -> None:
    """One rank."""
    try:
        limit = timedelta(seconds=LIMIT_S)
        torch.set_num_threads(1)
        dist.init_process_group(
            "gloo", store=dist.FileStore(store, RANKS), rank=number, world_size=RANKS, timeout=limit
        )
        answer.send(program(number))
    except BaseException:
        answer.send(traceback.format_exc())
    answer.recv()  # until the other has ended too


@cache
def ranks() -> list[dict[str, Any]]:
    """Both ranks' accounts."""
    os.environ[choice.VARIABLE] = "default"
    context = multiprocessing.get_context("fork")
    with tempfile.NamedTemporaryFile() as store:
        pipes = [context.Pipe() for _ in range(RANKS)]
        children = [context.Process(target=child, args=(n, store.name, pipes[n][1]), daemon=True) for n in range(RANKS)]
        for one in children:
            one.start()
        try:
            found = []
            for pipe, _ in pipes:
                assert pipe.poll(LIMIT_S), "a rank hangs"
                found.append(pipe.recv())
        finally:
            for one in children:
                one.kill()
                one.join()
    for account in found:
        assert isinstance(account, dict), account
    return found


def strikes(design: str, fault: Fault) -> bool:
    """Whether this rank comes by this point in this design."""
    if fault.point == "materialise":
        return fault.rank == 0 or design not in BY_LEADER
    return design in SHARED


def answers_are_the_defaults() -> None:
    wanted = ranks()[0]["default"]["handled"]
    for account in ranks():
        for design in DESIGNS:
            for kind in ("before", "after"):
                assert account[design]["handled"][kind] == wanted[kind], (design, kind)
    assert wanted["before"] != wanted["after"]


def a_failure_on_either_rank_is_that_requests_on_both() -> None:
    for account in ranks():
        for design in DESIGNS:
            failed = {kind for kind, what in account[design]["handled"].items() if what.startswith("failed")}
            assert failed == {kind for kind, fault in FAULTS.items() if strikes(design, fault)}, design
            assert account[design]["handled"].keys() == set(KINDS)


def builds(design: str, number: int, fault: Fault | None) -> bool:
    """Whether a rank comes to build, in this design, what suffers from this fault."""
    if fault is not None and fault.point == "materialise":
        return fault.rank != number
    return fault is None or design in BY_LEADER or design not in SHARED or fault.rank not in (0, number)


def sglangs_hash_is_made_where_the_design_says() -> None:
    for number, account in enumerate(ranks()):
        for design in DESIGNS:
            here = design != "eager" and (number == 0 or design not in BY_LEADER)
            built = sum(builds(design, number, FAULTS.get(kind)) for kind in KINDS) if here else 0
            assert account[design]["hashed"] == ITEMS * built, (number, design, account[design]["hashed"])


def an_abort_is_handled_after_what_it_aborts() -> None:
    for account in ranks():
        (seen,) = account["abort"]["seen"]
        assert seen == {"before": "failed: The request was aborted."}
        assert account["abort"]["handled"].keys() == {"before", "after"}


def the_hooks_are_there_with_a_design_and_only_then() -> None:
    for design, there in (("leader", True), ("", False)):
        with patch.dict(os.environ, {choice.VARIABLE: design}):
            targets = {hook.target for hook in importlib.reload(hooks).HOOKS}
        assert ({hook.target for hook in hooks.DESIGN_HOOKS} <= targets) == there


def the_tokenizer_asks_for_the_design() -> None:
    asked: list[Any] = []

    async def goes(mm_inputs: Any) -> bool:
        asked.append(mm_inputs)
        return False

    async def original(_self: Any, _obj: Any) -> Any:
        return SimpleNamespace(mm_inputs=SimpleNamespace(mm_items=[]))

    with patch.object(tokenizer, "goes_by_arena", goes):
        asyncio.run(tokenizer.tokenize(original, SimpleNamespace(), SimpleNamespace()))
    assert len(asked) == 1


CHECKS: tuple[Callable[[], None], ...] = (
    answers_are_the_defaults,
    a_failure_on_either_rank_is_that_requests_on_both,
    sglangs_hash_is_made_where_the_design_says,
    an_abort_is_handled_after_what_it_aborts,
    the_hooks_are_there_with_a_design_and_only_then,
    the_tokenizer_asks_for_the_design,
)


if __name__ == "__main__":
    for check in CHECKS:
        error = None
        try:
            check()
        except Exception:
            error = traceback.format_exc()
        print("CHECK " + json.dumps({"name": check.__name__, "error": error}), flush=True)
