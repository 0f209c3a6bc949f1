"""Which functions of SGLang are wrapped, and by what."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from mmplane.engines.sglang import launcher, rank, tokenizer
from mmplane.engines.sglang.building import step
from mmplane.engines.sglang.building.choice import wanted

_SRT = "sglang.srt"
_POINTER = f"{_SRT}.managers.mm_utils.ShmPointerMMData"

_SCHEDULER = f"{_SRT}.managers.scheduler.Scheduler"

DESIGN_HOOKS: dict[str, Callable[..., Any]] = {
    f"{_SCHEDULER}.process_input_requests": step.process,
    f"{_SCHEDULER}.abort_request": step.abort,
    f"{_SCHEDULER}.maybe_sleep_on_idle": step.sleep,
}
"""Where the server was started with a design."""

HOOKS: MappingProxyType[str, Callable[..., Any]] = MappingProxyType(
    {
        f"{_SRT}.entrypoints.engine.Engine._launch_scheduler_processes": launcher.launch,
        f"{_SRT}.managers.tokenizer_manager.TokenizerManager.__init__": tokenizer.start,
        f"{_SRT}.managers.tokenizer_manager.TokenizerManager._tokenize_one_request": tokenizer.tokenize,
        f"{_SRT}.managers.tokenizer_manager.TokenizerManager._dispatch_to_scheduler": tokenizer.dispatch,
        f"{_SRT}.managers.schedule_batch.MultimodalDataItem.set_pad_value": tokenizer.set_pad_value,
        f"{_SRT}.managers.scheduler.Scheduler.__init__": rank.start,
        f"{_SRT}.managers.scheduler.Scheduler._get_multimodal_inputs": rank.build_inputs,
        f"{_SRT}.managers.scheduler_components.request_receiver.SchedulerRequestReceiver._finalize_shm_features": (
            rank.finalize
        ),
        f"{_POINTER}.__setstate__": rank.set_state,
        f"{_POINTER}.materialize": rank.materialize,
        f"{_POINTER}.close_and_unlink": rank.close_and_unlink,
        **(DESIGN_HOOKS if wanted() else {}),
    }
)
"""All of them are AROUND hooks: called with the original first, they pass through where the plugin is not on."""
