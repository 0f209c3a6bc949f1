"""Differences between the supported versions of SGLang, detected by features and not by version numbers."""

from __future__ import annotations

import inspect
from typing import Any

from sglang.srt.environ import envs
from sglang.srt.managers.schedule_batch import MultimodalInputs

_REQUIRES = "requires_mm_token_modalities"


def has_worker_app() -> bool:
    """Whether tokenizer workers can load plugins (since 0.5.23); otherwise only one tokenizer is supported."""
    return hasattr(envs, "SGLANG_HTTP_SERVER_APP_PATH")


def build(mm_inputs: Any, model_config: Any) -> Any:
    """Call `MultimodalInputs.from_processor_output` like this version's scheduler."""
    given = {}
    if _REQUIRES in inspect.signature(MultimodalInputs.from_processor_output).parameters:
        given[_REQUIRES] = getattr(model_config, _REQUIRES)
    return MultimodalInputs.from_processor_output(mm_inputs, **given)


def identity_of(item: Any) -> bytes | None:
    """The item's full identity; None before 0.5.23, where an item only has 64 bits of it."""
    identity: bytes | None = getattr(item, "identity", None)
    return identity


def set_identity(item: Any, whole: bytes) -> None:
    """Name an item that has no pad value. Before 0.5.23 the first 64 bits of its identity become its hash."""
    if hasattr(item, "set_identity"):
        item.set_identity(whole)
    else:
        item.hash = int.from_bytes(whole[:8], "big")
        item.set_pad_value()


def pad_values_of(item: Any) -> tuple[int, ...]:
    """The token ids that stand for the item's content in the prompt; before 0.5.23 only one."""
    return tuple(item.pad_values) if hasattr(item, "pad_values") else (item.pad_value,)
