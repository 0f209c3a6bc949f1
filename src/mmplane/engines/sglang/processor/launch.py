"""In the launcher: whether this server's pictures are made by the sidecar, and what it is started with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from mmplane.core.records import BackendName

VARIABLE = "MMPLANE_SGLANG_PROCESSOR"
SETTINGS = ("auto", "on", "off")

ARCHITECTURES = frozenset(
    {
        "Gemma3ForConditionalGeneration",
        "PaddleOCRVLForConditionalGeneration",
        "Qwen2VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3VLForConditionalGeneration",
        "Qwen3VLMoeForConditionalGeneration",
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
    }
)
"""Models that the sidecar has, and whose pictures SGLang loads in its common way, for transformers' image processor.

InternVL, LLaVA and Pixtral are transformed by code of SGLang's own, GLM-V and Kimi are loaded by it, and the prompts of
Llama 4 need more of a picture than the sidecar gives.
"""

PACKAGES = ("av", "numba", "soxr", "tokenizers")
"""What the sidecar's workers need beside what SGLang brings."""


@dataclass(frozen=True)
class Wanted:
    """What `Sidecar.begin` is given: whose model, and whose bits."""

    model: str
    backend: BackendName


def wanted(server_args: Any, hf_config: Any) -> Wanted | str:
    """What to start, or the reason why SGLang decodes in its own process. Raises ValueError for a bad setting."""
    setting = chosen()
    if setting == "off":
        return f"{VARIABLE}=off"
    if setting == "auto" and server_args.device != "cpu":
        return (
            f"with {server_args.device} SGLang decodes and transforms on the device, and no CPU gives its bits. "
            f"{VARIABLE}=on takes a CPU's"
        )
    architectures = list(getattr(hf_config, "architectures", None) or [])
    if not ARCHITECTURES.intersection(architectures):
        return f"pictures of {', '.join(architectures)} are not covered"
    if getattr(server_args, "mm_preprocess_cache_size_mb", None):
        return "SGLang's preprocess cache would keep the arena's memory"
    if getattr(server_args, "revision", None):
        return "--revision is not covered"
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        return f"{', '.join(missing)} missing: pip install 'mmplane[media]'"
    is_pil = getattr(server_args, "disable_fast_image_processor", False)
    is_pil = is_pil or getattr(server_args, "image_processor_backend", "auto") == "pil"
    return Wanted(server_args.model_path, "pil" if is_pil else "torchvision")


def chosen() -> str:
    """As set, or `auto`. Raises ValueError."""
    setting = os.environ.get(VARIABLE, "auto")
    if setting not in SETTINGS:
        raise ValueError(f"{VARIABLE} must be {', '.join(SETTINGS)}")
    return setting
