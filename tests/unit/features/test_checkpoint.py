"""What is written down of transformers' classes is what the classes say."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
import transformers
from transformers import CONFIG_MAPPING, WhisperFeatureExtractor
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

import torchvision_stub
from mmplane.features.checkpoint import files
from mmplane.features.checkpoint.defaults import SOUNDS
from mmplane.features.checkpoint.files import NAMES
from mmplane.features.checkpoint.image import ImageCheckpoint
from mmplane.features.facts import INSIDE, MODALITIES
from mmplane.features.families.names import KNOWN
from torchvision_reference import Reference

from .checkpoints import FAMILIES

IGNORED = {"do_convert_rgb", "pan_and_scan_min_crop_size", "return_row_col_info"}
"""They change no output here: images are RGB, and what the last ones say is always asked for, or never."""


@pytest.mark.parametrize("kind", KNOWN.images)
def test_an_image_processors_options(kind: str, request: pytest.FixtureRequest) -> None:
    known = {name: list(value) if isinstance(value, tuple) else value for name, value in KNOWN.images[kind].items()}
    if kind in KNOWN.torchvision:
        reference: Reference = request.getfixturevalue("reference")
        said = reference.defaults(kind)
    else:
        said = torchvision_stub.defaults(getattr(transformers, f"{kind}Pil"))
    known.pop("several", None)  # said of a prompt, not of a processor
    assert {name: said.pop(name, None) for name in known} == known
    assert {name for name, value in said.items() if value is not None} - IGNORED == set()


@pytest.mark.parametrize("model_type", KNOWN.models)
def test_the_classes_and_tokens_of_a_model(model_type: str) -> None:
    kinds = KNOWN.models[model_type]
    assert kinds.processor == PROCESSOR_MAPPING_NAMES[model_type]
    if kinds.image:
        backends = IMAGE_PROCESSOR_MAPPING_NAMES[model_type]
        assert backends.get("pil", backends["torchvision"]).removesuffix("Pil") == kinds.image
        assert ("pil" in backends) == (kinds.image not in KNOWN.torchvision)
    config = CONFIG_MAPPING[model_type]()
    for modality in MODALITIES:
        inside = getattr(config, INSIDE[modality], None)
        token = getattr(config, f"{modality}_token_id", getattr(inside, f"{modality}_token_id", None))
        assert token == kinds.tokens.get(modality)


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
    assert ImageCheckpoint.load("somebody/model", KNOWN).options == ImageCheckpoint.load(str(tmp_path), KNOWN).options
    assert set(asked) == {("somebody/model", NAMES)}
    assert len(asked) == 1


def test_a_fingerprint_reads_the_versions_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key asks for it, and reading a package's metadata takes a millisecond."""
    asked: list[str] = []
    monkeypatch.setattr(files, "version", lambda name: asked.append(name) or "1")
    checkpoint = files.CheckpointFiles(FAMILIES["qwen2_5_vl"].write(tmp_path))
    assert len({checkpoint.fingerprint("image", "uint8") for _ in range(3)}) == 1
    assert asked == list(files.COMPUTING)
