"""Which functions of SGLang are wrapped, and by what."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from mmplane.engines.sglang import launcher, rank, tokenizer

_SRT = "sglang.srt"
_POINTER = f"{_SRT}.managers.mm_utils.ShmPointerMMData"

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
    }
)
"""All of them are AROUND hooks: called with the original first, they pass through where the plugin is not on."""
