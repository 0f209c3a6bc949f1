"""In the launcher: decides whether the sidecar makes this server's pictures, and with which options it is started."""

from __future__ import annotations

import os
from collections.abc import Mapping
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
"""Models that the sidecar supports, and whose pictures SGLang loads in its common way, for transformers' processor.

InternVL, LLaVA and Pixtral are transformed by SGLang's own code, GLM-V and Kimi are loaded by it, and the prompts of
Llama 4 need more information about a picture than the sidecar returns.
"""

PACKAGES = ("av", "numba", "soxr", "tokenizers")
"""Packages that the sidecar's workers need beside those of SGLang."""


@dataclass(frozen=True)
class Wanted:
    """Arguments of `Sidecar.begin`: the model, and the backend whose bits are wanted."""

    model: str
    backend: BackendName


def wanted(options: Mapping[str, Any], hf_config: Any) -> Wanted | str:
    """Return what to start for a server with these options, or why SGLang decodes in its own process.

    Raises ValueError for a bad setting.
    """
    setting, device = chosen(), options.get("device")
    architectures = list(getattr(hf_config, "architectures", None) or [])
    missing = [name for name in PACKAGES if find_spec(name) is None]
    cases = {
        f"{VARIABLE}=off": setting == "off",
        f"pictures of {', '.join(architectures)} are not covered": not ARCHITECTURES.intersection(architectures),
        f"with {device} SGLang decodes and transforms on the device, and no CPU gives its bits. "
        f"{VARIABLE}=on takes a CPU's": setting == "auto" and device != "cpu",
        "SGLang's preprocess cache would keep the arena's memory": options.get("mm_preprocess_cache_size_mb"),
        "--revision is not covered": options.get("revision"),
        f"{', '.join(missing)} missing: pip install 'mmplane[media]'": missing,
    }
    reason = next((reason for reason, holds in cases.items() if holds), None)
    if reason is not None:
        return reason
    is_pil = options.get("disable_fast_image_processor") or options.get("image_processor_backend") == "pil"
    return Wanted(str(options["model_path"]), "pil" if is_pil else "torchvision")


def chosen() -> str:
    """The setting, or `auto`. Raises ValueError."""
    setting = os.environ.get(VARIABLE, "auto")
    if setting not in SETTINGS:
        raise ValueError(f"{VARIABLE} must be {', '.join(SETTINGS)}")
    return setting
