"""What an engine's own processor makes of noise of 200 sizes: a digest of the features of each, by model and dtype.

    tools/peers/vllm/install.sh VLLM;     VLLM/bin/python tools/peers/record_features.py vllm
    tools/peers/sglang/install.sh SGLANG; SGLANG/bin/python tools/peers/record_features.py sglang

Each writes `tests/unit/features/engines/ENGINE.json`, which unit tests compare `--backend torchvision` with.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

TESTS = Path(__file__).parents[2] / "tests" / "unit" / "features"
sys.path.insert(0, str(TESTS))
from checkpoints import FAMILIES  # noqa: E402
from engines.noise import SIZES, noise  # noqa: E402

ARCHITECTURES = {
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
    "llava": "LlavaForConditionalGeneration",
    "llava_next": "LlavaNextForConditionalGeneration",
    "gemma3": "Gemma3ForConditionalGeneration",
    "internvl": "InternVLForConditionalGeneration",
}
DTYPES = ("float32", "bfloat16")
Make = Callable[[Image.Image], Any]
"""Features of one image, a tensor."""


def vllm(folder: str, _: str) -> Iterator[tuple[str, Make]]:
    """For each dtype of a model; and uint8, its default for some models, which the device normalises."""
    from vllm.config import ModelConfig
    from vllm.multimodal import MULTIMODAL_REGISTRY

    def make(**settings: Any) -> Make:
        config = ModelConfig(model=folder, **settings)
        processor = MULTIMODAL_REGISTRY.create_processor(config)
        text = processor._get_hf_mm_text({"image": 1})
        data = {} if text is None else {"text": text}
        return lambda image: processor._call_hf_processor({"images": [image], **data}, {})["pixel_values"]

    for dtype in DTYPES:
        yield dtype, make(dtype=dtype, mm_device_do_normalize=False)
    yield "uint8", make(dtype="bfloat16")


def sglang(folder: str, image_token: str) -> Iterator[tuple[str, Make]]:
    """As `BaseMultimodalProcessor` calls it on a CPU."""
    from sglang.srt.utils.hf_transformers import get_processor

    processor = get_processor(folder)
    yield (
        "float32",
        lambda image: processor(text=[image_token], images=[image], padding=True, return_tensors="pt")["pixel_values"],
    )


def digest(features: Any) -> str:
    """Of the bytes of a tensor."""
    import torch

    return hashlib.sha256(features.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()[:16]


def main() -> None:
    """Record one engine."""
    warnings.simplefilter("ignore")
    (engine,) = sys.argv[1:]
    found: dict[str, dict[str, list[str]]] = {}
    for name, architecture in ARCHITECTURES.items():
        with TemporaryDirectory() as folder:
            FAMILIES[name].write(Path(folder))
            config = json.dumps({"model_type": FAMILIES[name].model_type, "architectures": [architecture]})
            Path(folder, "config.json").write_text(config)
            token = FAMILIES[name].special["boi_token" if name == "gemma3" else "image_token"]
            for dtype, make in {"vllm": vllm, "sglang": sglang}[engine](folder, token):
                features = [make(Image.fromarray(noise(*size))) for size in SIZES]
                kinds = {str(each.dtype).removeprefix("torch.") for each in features}
                if kinds == {dtype}:
                    found.setdefault(name, {})[dtype] = [digest(each) for each in features]
                print(name, dtype, kinds, flush=True)
    record = {
        "command": f"python tools/peers/record_features.py {engine}",
        "versions": {each: version(each) for each in (engine, "transformers", "torch", "torchvision")},
        "features": found,
    }
    (TESTS / "engines" / f"{engine}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
