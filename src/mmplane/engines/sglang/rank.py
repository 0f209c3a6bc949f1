"""On a scheduler rank: a pointer becomes a tensor over the mapping; a failure becomes that request's.

The region is mapped when the scheduler starts. From then on no step of this can fail on one rank and not on another,
so requests whose features all lie in an arena need no agreement: neither SGLang's barrier nor its all_reduce. A lease
ends with the last tensor over it, whatever SGLang does with the request: finish, abort, retract, or keep for n > 1.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from sglang.srt.managers.io_struct import MMInputsProcessError
from sglang.srt.managers.mm_utils import ShmPointerMMData, unwrap_shm_features
from sglang.srt.managers.schedule_batch import MultimodalInputs
from sglang.srt.managers.scheduler import _MultimodalInputProcessingError
from sglang.srt.runtime_context import get_mm, get_parallel

from mmplane.arena.errors import ArenaError
from mmplane.embed.inbox import Inbox
from mmplane.engines.sglang import pointer
from mmplane.engines.sglang.launcher import Planes

log = logging.getLogger("mmplane")

_inboxes: list[Inbox] = []


def start(original: Callable[..., None], self: Any, *args: Any, **kwargs: Any) -> None:
    """Around `Scheduler.__init__`: this is a rank. It joins every plane, or the tokenizer leaves the arena alone."""
    original(self, *args, **kwargs)
    planes = Planes.inherited()
    if planes is None:
        return
    try:
        _inboxes.extend([Inbox(address, rank_number()) for address in planes.addresses])
    except (OSError, ValueError) as error:
        log.warning("mmplane: off: a rank cannot map the arena (%s)", error)


def rank_number() -> int:
    """This process among all that get messages, group after group."""
    parallel = get_parallel()
    if parallel.attn_dp_enabled:
        width = parallel.attn_tp_size * parallel.attn_cp_size
        return int(
            parallel.attn_dp_rank * width + parallel.attn_cp_rank * parallel.attn_tp_size + parallel.attn_tp_rank
        )
    return int((parallel.dp_rank or 0) * parallel.tp_size + parallel.tp_rank)


def set_state(original: Callable[..., None], self: ShmPointerMMData, state: dict[str, Any]) -> None:
    """Around `ShmPointerMMData.__setstate__`. Never raises: all ranks must get through the broadcast.

    In a process that only passes messages on (the data-parallel controller) it opens nothing.
    """
    if not state["shm_name"].startswith(pointer.PREFIX):
        return original(self, state)
    pointer.clear(self)
    self.shm_name, self.shape, self.dtype = state["shm_name"], state["shape"], state["dtype"]
    self.precomputed_hash = state.get("precomputed_hash")
    self.mmplane_view = None
    if _inboxes:
        try:
            plane, leased = pointer.parse(self.shm_name)
            self.mmplane_view = _inboxes[plane].open(leased)
        except (ValueError, IndexError, ArenaError) as error:
            self._materialization_error = f"{type(error).__name__}: {error}"
    return None


def materialize(original: Callable[..., torch.Tensor], self: ShmPointerMMData) -> torch.Tensor:
    """Around `ShmPointerMMData.materialize`: a tensor over the mapping, writable, private to this process."""
    if not pointer.is_ours(self):
        return original(self)
    if self.mmplane_view is None:
        raise RuntimeError(self._materialization_error or "this process is no rank")
    tensor: torch.Tensor = self.mmplane_view.arrays(torch)[pointer.ARRAY]
    self.mmplane_view = None
    return tensor


def close_and_unlink(original: Callable[..., None], self: ShmPointerMMData) -> None:
    """Around `ShmPointerMMData.close_and_unlink`: there is nothing to unlink."""
    if not pointer.is_ours(self):
        return original(self)
    self.mmplane_view = None
    return None


def finalize(original: Callable[..., None], self: Any, recv_reqs: list[Any] | None) -> None:
    """Around `SchedulerRequestReceiver._finalize_shm_features`.

    All ranks got the same list, so all take the same branch: with one pointer to a named segment among them they agree
    by SGLang's collectives, as without the plugin.
    """
    if not recv_reqs or not _inboxes:
        return original(self, recv_reqs)
    requests = [request for request in _flatten(recv_reqs) if getattr(request, "mm_inputs", None) is not None]
    pointers = [one for request in requests for one in _pointers(request)]
    if not pointers or not all(map(pointer.is_ours, pointers)):
        return original(self, recv_reqs)
    for request in requests:
        try:
            unwrap_shm_features(request)
        except (RuntimeError, ValueError):  # a record that no rank can read
            log.exception("mmplane: features of rid=%s cannot be read", request.rid)
            request.mm_inputs = MMInputsProcessError("The features of this request could not be read.")
    return None


def build_inputs(original: Callable[..., Any], self: Any, mm_inputs: Any) -> Any:
    """Around `Scheduler._get_multimodal_inputs`: an exception is this request's 500 and not the server's end.

    What the tokenizer has identified is built on each rank in microseconds, so SGLang's flag that builds on one rank
    and broadcasts the features once more (`--enable-broadcast-mm-inputs-process`) is passed over.
    """
    if not _inboxes:
        return original(self, mm_inputs)
    try:
        if get_mm().enable_broadcast_mm_inputs_process and _is_identified(mm_inputs):
            requires = self.model_config.requires_mm_token_modalities
            return MultimodalInputs.from_processor_output(mm_inputs, requires_mm_token_modalities=requires)
        return original(self, mm_inputs)
    except _MultimodalInputProcessingError:
        raise
    except Exception as error:
        log.exception("mmplane: the inputs of a request could not be built")
        raise _MultimodalInputProcessingError("The multimodal inputs of this request could not be built.") from error


def _is_identified(mm_inputs: Any) -> bool:
    items = getattr(mm_inputs, "mm_items", None)
    return items is not None and all(item.pad_value is not None for item in items)


def _flatten(received: list[Any]) -> Iterator[Any]:
    for request in received:
        yield from getattr(request, "batch", None) or (request,)


def _pointers(request: Any) -> Iterator[ShmPointerMMData]:
    for item in getattr(request.mm_inputs, "mm_items", ()):
        for value in pointer.values_of(item):
            if isinstance(value, ShmPointerMMData):
                yield value
