"""`--backend torchvision` gives what engines' own processors gave for noise of 200 sizes.

That was recorded by `tools/peers/record_features.py`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from mmplane.features.families.table import TableImageProcessor
from mmplane.features.reference.parity import materialise
from mmplane.features.select import image_processor

from .checkpoints import FAMILIES
from .engines.noise import SIZES, noise

RECORDED = {path.stem: json.loads(path.read_text()) for path in Path(__file__).with_name("engines").glob("*.json")}
CASES = [
    (engine, family, dtype)
    for engine, record in sorted(RECORDED.items())
    for family, by_dtype in record["features"].items()
    for dtype in by_dtype
]


def test_both_engines_are_recorded() -> None:
    assert {engine: len(record["features"]) for engine, record in RECORDED.items()} == {"sglang": 6, "vllm": 6}
    assert ("vllm", "qwen2_5_vl", "uint8") in CASES
    assert len(set(SIZES)) >= 195


@pytest.mark.parametrize(("engine", "family", "dtype"), CASES)
def test_the_bits_of_an_engine(engine: str, family: str, dtype: Any, tmp_path: Path) -> None:
    folder = FAMILIES[family].write(tmp_path)
    encoding: Any = "uint8_copies" if dtype == "uint8" else dtype
    processor = image_processor(folder, encoding=encoding, backend="torchvision", verdict="same")
    assert isinstance(processor, TableImageProcessor)
    made = []
    for size in SIZES:
        features: Any = materialise(processor, noise(*size))["pixel_values"]
        made.append(hashlib.sha256(features.tobytes()).hexdigest()[:16])
    assert made == RECORDED[engine]["features"][family][dtype]
