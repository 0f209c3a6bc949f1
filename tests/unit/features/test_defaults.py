"""What is written down of transformers' classes is what the classes say."""

from __future__ import annotations

from typing import Any

import pytest
import transformers
from transformers import CONFIG_MAPPING, WhisperFeatureExtractor
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from mmplane.features.checkpoint.defaults import IMAGES, MODELS, SOUNDS
from mmplane.features.families.names import FAST


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
