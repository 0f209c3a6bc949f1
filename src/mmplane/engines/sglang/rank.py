"""On a scheduler rank: turns pointers into arrays over the mapping, and confines failures to their request.

Regions are mapped when the scheduler starts, and nothing is leased before all ranks of a group have mapped them. So a
rank's actions depend only on the message, and all ranks do the same. Requests whose features are all in an arena need
no agreement, neither SGLang's barrier nor its all_reduce. A lease ends with the last array over it, whatever SGLang
does with the request: finish, abort, retract, or keep for n > 1.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

import torch
from sglang.srt.managers.io_struct import MMInputsProcessError
from sglang.srt.managers.mm_utils import ShmPointerMMData, discard_shm_features
from sglang.srt.managers.scheduler import _MultimodalInputProcessingError
from sglang.srt.runtime_context import get_mm, get_parallel

from mmplane.embed.inbox import Inbox
from mmplane.engines.kit.attach import attach
from mmplane.engines.kit.board import read
from mmplane.engines.kit.sidecar import Place
from mmplane.engines.sglang import gpu, pointer
from mmplane.engines.sglang.launcher import PLACE_VARIABLE
from mmplane.engines.sglang.topology import Topology, options_of, ranks_of
from mmplane.engines.sglang.versions import build

log = logging.getLogger("mmplane")

ATTACHED_LIMIT_S = 10.0
"""When a record arrives, the sidecar has already accepted this rank; its own thread is about to know it."""

_attached: Future[Inbox] | None = None
"""This process's inbox. A process is one rank, because torch.distributed has one rank per process."""


def start(original: Callable[..., None], self: Any, server_args: Any, *args: Any, **kwargs: Any) -> None:
    """Wraps `Scheduler.__init__`: this is a rank. The arena is not used until all ranks have attached."""
    global _attached
    original(self, server_args, *args, **kwargs)
    place = Place.inherited(PLACE_VARIABLE)
    if place is not None:
        given = inspect.signature(original).bind(self, server_args, *args, **kwargs).arguments
        group, rank = Topology.of(options_of(server_args)).position(*ranks_of(given, get_parallel()))
        if place.board:
            _attached = attach(partial(_mirrored, place.board, group, rank))
            return
        access = gpu.begin(torch)
        _attached = attach(
            lambda: Inbox(place.socket, group=group, rank=rank, ranks=place.groups[group], access=access)
        )


def set_state(original: Callable[..., None], self: ShmPointerMMData, state: dict[str, Any]) -> None:
    """Wraps `ShmPointerMMData.__setstate__`. Never raises, because all ranks must complete the broadcast.

    In a process that only forwards messages (the data-parallel controller) it opens nothing.
    """
    if not state["shm_name"].startswith(pointer.PREFIX):
        return original(self, state)
    pointer.clear(self)
    self.shm_name, self.shape, self.dtype = state["shm_name"], state["shape"], state["dtype"]
    self.precomputed_hash = state.get("precomputed_hash")
    self.mmplane_view = None
    if _attached is not None:
        try:
            self.mmplane_view = _attached.result(ATTACHED_LIMIT_S).open(pointer.parse(self.shm_name))
        except Exception as error:  # noqa: BLE001 - `materialize` says it, where a request can fail
            self._materialization_error = f"{type(error).__name__}: {error}"
    return None


def materialize(original: Callable[..., Any], self: ShmPointerMMData) -> Any:
    """Wraps `ShmPointerMMData.materialize`: an array over the mapping, writable and private to this process."""
    if not pointer.is_ours(self):
        return original(self)
    if self.mmplane_view is None:
        raise RuntimeError(self._materialization_error or "this process is not a rank")
    array = next(iter(self.mmplane_view.arrays(pointer.library(self)).values()))
    self.mmplane_view = None
    return array


def close_and_unlink(original: Callable[..., None], self: ShmPointerMMData) -> None:
    """Wraps `ShmPointerMMData.close_and_unlink`: there is nothing to unlink."""
    if not pointer.is_ours(self):
        return original(self)
    self.mmplane_view = None
    return None


def finalize(original: Callable[..., None], self: Any, recv_reqs: list[Any] | None) -> None:
    """Wraps `SchedulerRequestReceiver._finalize_shm_features`, which then only finds named segments, or nothing."""
    gpu.drain()
    for request in _flatten(recv_reqs or []):
        try:
            for item in getattr(getattr(request, "mm_inputs", None), "mm_items", ()):
                pointer.replace(item, _restored)
        except (RuntimeError, ValueError):  # a record that no rank can read
            log.exception("mmplane: features of rid=%s cannot be read", request.rid)
            discard_shm_features(request)
            request.mm_inputs = MMInputsProcessError("The features of this request could not be read.")
    return original(self, recv_reqs)


def build_inputs(original: Callable[..., Any], self: Any, mm_inputs: Any) -> Any:
    """Wraps `Scheduler._get_multimodal_inputs`: an exception becomes this request's 500 instead of ending the server.

    Inputs with an identity from the tokenizer are built on each rank in microseconds, so SGLang's flag that builds on
    one rank and broadcasts the features again (`--enable-broadcast-mm-inputs-process`) is skipped.
    """
    if PLACE_VARIABLE not in os.environ:
        return original(self, mm_inputs)
    try:
        if get_mm().enable_broadcast_mm_inputs_process and _is_identified(mm_inputs):
            return build(mm_inputs, self.model_config)
        return original(self, mm_inputs)
    except _MultimodalInputProcessingError:
        raise
    except Exception as error:
        log.exception("mmplane: the inputs of a request could not be built")
        raise _MultimodalInputProcessingError("The multimodal inputs of this request could not be built.") from error


def _mirrored(board: str, group: int, rank: int) -> Inbox:
    """Join the plane of several nodes. Raises what `Inbox` raises."""
    address = read(board)
    return Inbox(address, address.ranks_of(group)[rank])


def _restored(value: Any, _place: str) -> Any:
    return value.materialize() if pointer.is_ours(value) else value


def _is_identified(mm_inputs: Any) -> bool:
    items = getattr(mm_inputs, "mm_items", None)
    return items is not None and all(item.pad_value is not None for item in items)


def _flatten(received: list[Any]) -> Iterator[Any]:
    for request in received:
        yield from getattr(request, "batch", None) or (request,)
