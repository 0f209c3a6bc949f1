"""The models that `make` covers, and what the sidecar has to make for them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from vllm.multimodal import MULTIMODAL_REGISTRY

from mmplane.embed.sidecar import Settings, SidecarEncoding
from mmplane.features.select import fast_images

COVERED = frozenset({"Qwen2VLMultiModalProcessor", "Qwen2_5_VLMultiModalProcessor", "Qwen3VLMultiModalProcessor"})
"""vLLM's processor classes that pass images one by one, and whose outputs are one after the other."""
CONNECTOR_VARIABLE = "VLLM_MEDIA_CONNECTOR"
CONNECTOR_DEFAULT, CONNECTOR = "http", "mmplane"
"""The names of vLLM's media connector and of mmplane's."""
DTYPES = ("float32", "bfloat16", "float16")


class Uncovered(Exception):
    """Why vLLM's own processor is used for this model."""


@dataclass(frozen=True)
class Plan:
    """The sidecar's options for a model. `raw`: for a model that normalises on the device."""

    model: str
    encoding: SidecarEncoding

    @property
    def raw(self) -> bool:
        """Whether features are pixels that the device normalises."""
        return self.encoding == "uint8_copies"

    @property
    def sidecar(self) -> Settings:
        """The sidecar's backend, decode profile and encoding."""
        return Settings(model=self.model, encoding=self.encoding, backend="torchvision", profile="vllm")


def plan(config: Any) -> Plan:
    """Return the plan for a VllmConfig. Raises Uncovered."""
    model = config.model_config
    name = MULTIMODAL_REGISTRY._get_model_cls(model)._processor_factory.processor.__name__
    if os.environ.get(CONNECTOR_VARIABLE, CONNECTOR_DEFAULT) not in (CONNECTOR_DEFAULT, CONNECTOR):
        raise Uncovered(f"{CONNECTOR_VARIABLE} names another connector")
    if name not in COVERED:
        raise Uncovered(f"the model's images go through {name}")
    if not Path(model.model).is_dir():
        raise Uncovered("the model is no local folder")
    if fast_images(model.model, "torchvision") is None:
        raise Uncovered("the model's image processor, or its configuration, has no fast path")
    if model.multimodal_config.mm_device_do_normalize:
        return Plan(model.model, "uint8_copies")
    dtype = str(model.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise Uncovered(f"features of {dtype}")
    return Plan(model.model, cast("SidecarEncoding", dtype))
