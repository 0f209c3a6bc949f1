"""The functions of SGLang that are wrapped, and their wrappers."""

from __future__ import annotations

from mmplane.engines.kit.hooks import Hook
from mmplane.engines.sglang import gpu, launcher, rank, tokenizer
from mmplane.engines.sglang.building import step
from mmplane.engines.sglang.building.choice import wanted
from mmplane.engines.sglang.processor import install, refusal

_SRT = "sglang.srt"
_MANAGERS = f"{_SRT}.managers"
_TOKENIZER = f"{_MANAGERS}.tokenizer_manager.TokenizerManager"
_SCHEDULER = f"{_MANAGERS}.scheduler.Scheduler"
_RECEIVER = f"{_MANAGERS}.scheduler_components.request_receiver.SchedulerRequestReceiver"
_POINTER = f"{_MANAGERS}.mm_utils.ShmPointerMMData"

DESIGN_HOOKS = (
    Hook(f"{_SCHEDULER}.process_input_requests", step.process),
    Hook(f"{_SCHEDULER}.abort_request", step.abort),
    Hook(f"{_SCHEDULER}.maybe_sleep_on_idle", step.sleep),
)
"""Used only if the server was started with a design (`MMPLANE_SGLANG_DESIGN`)."""

HOOKS = (
    Hook(f"{_SRT}.entrypoints.engine.Engine._launch_scheduler_processes", launcher.launch),
    Hook(f"{_SRT}.entrypoints.engine.Engine.shutdown", launcher.shutdown),
    Hook(f"{_TOKENIZER}.__init__", tokenizer.start),
    Hook(f"{_TOKENIZER}._tokenize_one_request", tokenizer.tokenize),
    Hook(f"{_TOKENIZER}._dispatch_to_scheduler", tokenizer.dispatch),
    Hook(f"{_MANAGERS}.multimodal_processor.get_mm_processor", install.make),
    Hook(f"{_SRT}.entrypoints.openai.serving_base.OpenAIServingBase.create_error_response", refusal.answer),
    Hook(f"{_MANAGERS}.schedule_batch.MultimodalDataItem.set_pad_value", tokenizer.set_pad_value),
    Hook(f"{_SCHEDULER}.__init__", rank.start),
    Hook(f"{_SCHEDULER}._get_multimodal_inputs", rank.build_inputs),
    Hook(f"{_RECEIVER}._finalize_shm_features", rank.finalize),
    Hook(f"{_POINTER}.__setstate__", rank.set_state),
    Hook(f"{_POINTER}.materialize", rank.materialize),
    Hook(f"{_POINTER}.close_and_unlink", rank.close_and_unlink),
    Hook(f"{_MANAGERS}.mm_utils.embed_mm_inputs", gpu.embed),
    Hook(f"{_SRT}.multimodal.mm_utils.materialize_multimodal_features", gpu.materialize),
    *(DESIGN_HOOKS if wanted() else ()),
)
"""Wrappers are called with the original first, and call it unchanged if the plugin is off."""
