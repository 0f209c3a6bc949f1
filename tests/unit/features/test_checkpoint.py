"""What is written down of transformers' classes is what the classes say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import transformers
from transformers import CONFIG_MAPPING, WhisperFeatureExtractor
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from mmplane.features.checkpoint.defaults import IMAGES, MODELS, SOUNDS
from mmplane.features.checkpoint.files import NAMES
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.families.names import FAST

from .checkpoints import FAMILIES


def plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) and isinstance(value[0], float) else value


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_processors_options(kind: str) -> None:
    own = getattr(transformers, f"{kind}Pil")
    assert {name: plain(getattr(own, name, None)) for name in IMAGES[kind]} == IMAGES[kind]
    ignored = {"do_convert_rgb", "pan_and_scan_min_crop_size"}
    said = {name for name in own.valid_kwargs.__annotations__ if getattr(own, name, None) is not None}
    assert said - set(IMAGES[kind]) - ignored == set()


def test_every_family_has_its_options() -> None:
    assert set(FAST) == set(IMAGES)


@pytest.mark.parametrize("model_type", MODELS)
def test_the_classes_and_tokens_of_a_model(model_type: str) -> None:
    kinds = MODELS[model_type]
    assert kinds.processor == PROCESSOR_MAPPING_NAMES[model_type]
    if kinds.image:
        assert IMAGE_PROCESSOR_MAPPING_NAMES[model_type]["pil"] == f"{kinds.image}Pil"
    config = CONFIG_MAPPING[model_type]()
    for modality in ("image", "video", "audio"):
        assert getattr(config, f"{modality}_token_id", None) == kinds.tokens.get(modality)


def test_the_options_of_sounds() -> None:
    own = WhisperFeatureExtractor()
    assert {name: getattr(own, name) for name in SOUNDS} == SOUNDS


def test_a_hub_ids_files_are_those_that_the_hub_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FAMILIES["qwen2_5_vl"].write(tmp_path)
    asked: list[tuple[str, tuple[str, ...]]] = []

    def snapshot_download(model: str, *, allow_patterns: list[str]) -> str:
        asked.append((model, tuple(allow_patterns)))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert ImageCheckpoint.load("somebody/model").options == ImageCheckpoint.load(str(tmp_path)).options
    assert set(asked) == {("somebody/model", NAMES)}
    assert len(asked) == 1
