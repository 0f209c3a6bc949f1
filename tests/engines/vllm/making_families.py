"""Runs inside vLLM's environment: `python making_families.py FOLDER [FAMILY...]`. One JSON line for each family.

The multimodal processor of a family, as vLLM registers it and with `make`: what both make of 40 pictures, in requests
of one and of several, with and without a cache.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from making_checks import UNIT, encoded, say
from making_rig import assert_same_item
from vllm.config import ModelConfig
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.media.image import ImageMediaIO

from mmplane.embed.sidecar import Sidecar
from mmplane.engines.kit.tally import Tally
from mmplane.engines.vllm.make.connector import SidecarImageIO
from mmplane.engines.vllm.make.install import install
from mmplane.engines.vllm.make.plan import plan
from mmplane.engines.vllm.make.reasons import REASONS

sys.path.insert(0, str(UNIT / "features"))
from checkpoints import FAMILIES
from engines.noise import SIZES, noise

ARCHITECTURES: dict[str, str] = {
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
}


class Config:
    """The part of a VllmConfig that is looked at."""

    def __init__(self, model_config: ModelConfig) -> None:
        self.model_config = model_config


def check(name: str, architecture: str) -> None:
    """Both processors give the same items and placeholders."""
    family = FAMILIES["qwen2_5_vl" if name == "qwen2_vl" else name]
    with TemporaryDirectory() as folder:
        family.write(Path(folder))
        kind = name if name == "qwen2_vl" else family.model_type
        described = {"model_type": kind, "architectures": [architecture], **family.config}
        Path(folder, "config.json").write_text(json.dumps(described))
        for more in ({"dtype": "bfloat16"}, {"dtype": "float32", "mm_device_do_normalize": False}):
            compare(Config(ModelConfig(model=folder, **more)))


def compare(config: Config) -> None:
    theirs = MULTIMODAL_REGISTRY.create_processor(config.model_config)
    model_class = MULTIMODAL_REGISTRY._get_model_cls(config.model_config)
    planned, tally = plan(config), Tally(REASONS, logging.getLogger("mmplane"))
    with (
        Sidecar.start(**{**planned.sidecar, "workers": 1}) as sidecar,
        sidecar.connect() as client,
        patch.object(model_class, "_processor_factory", model_class._processor_factory),
    ):
        maker = install(config, planned, lambda: client, tally)
        ours = MULTIMODAL_REGISTRY.create_processor(config.model_config)
        files = [encoded(noise(*size)) for size in SIZES[:40]]
        counts = [1] * 10 + [2] * 5 + [4] * 5
        for count in counts:
            chosen, files = files[:count], files[count:]
            expected = rendered(theirs, chosen, ImageMediaIO())
            found = rendered(ours, chosen, SidecarImageIO(maker, ImageMediaIO()))
            for part in ("prompt_token_ids", "mm_hashes", "mm_placeholders"):
                assert found[part] == expected[part], part
            for one, other in zip(found["mm_kwargs"]["image"], expected["mm_kwargs"]["image"], strict=True):
                assert_same_item(one, other)
        assert tally.figures() == {"features_seen": sum(counts), "features_carried": sum(counts)}, tally.reasons()


def rendered(processor: Any, files: Sequence[bytes], loader: ImageMediaIO) -> Any:
    """What a processor makes of files, without a cache."""
    items = processor.info.parse_mm_data({"image": [loader.load_bytes(file) for file in files]}, validate=False)
    return processor(processor.dummy_inputs.get_dummy_text({"image": len(files)}), items)


def main() -> None:
    """All of them, or those that are named."""
    for name in sys.argv[2:] or ARCHITECTURES:
        say(name, lambda name=name: check(name, ARCHITECTURES[name]))


if __name__ == "__main__":
    main()
