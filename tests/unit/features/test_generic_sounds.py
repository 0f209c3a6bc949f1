"""Sounds of families without a fast path: what transformers' own Processor and feature extractor give."""

from __future__ import annotations

import json
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoProcessor

from mmplane.config import Config
from mmplane.core.errors import RequestError
from mmplane.core.records import Ask
from mmplane.features.arithmetic.encodings import cast
from mmplane.features.choice import Processors, choose
from mmplane.features.contract.arrays import views
from mmplane.features.contract.audio import AudioProcessor
from mmplane.features.reference import sound_calls
from mmplane.features.reference.sound_calls import HuggingFaceAudioProcessor
from mmplane.features.select import generic_sounds
from mmplane.media import audio
from mmplane.media.materialise import examine, materialise
from mutation import Mutant, check_it_is_killed
from sounds import real, speech_like, write

from .checkpoints import FAMILIES, Family

SPECIAL = {"audio_token": "<sound>", "audio_bos_token": "<|audio_bos|>", "audio_eos_token": "<|audio_eos|>"}
WHISPER = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 128}
FAMILIES = {
    "phi4": (FAMILIES["phi4_multimodal"], {"feature_extractor_type": "Phi4MultimodalFeatureExtractor"}),
    "audioflamingo3": (
        Family({}, {"processor_class": "AudioFlamingo3Processor"}, "audioflamingo3", SPECIAL, {"audio_token_id": 5}),
        WHISPER,
    ),
    "glmasr": (
        Family({}, {"processor_class": "GlmAsrProcessor"}, "glmasr", {"pad": "<|pad|>"}, {"audio_token_id": 5}),
        WHISPER,
    ),
}
WHOLE = ("audioflamingo3", "glmasr")
"""Those whose Processor can be loaded without torchvision."""
SOUNDS = {
    "somebody speaks": lambda: real("Front_Center"),
    "seven seconds": lambda: write(speech_like(7.03), 16_000, "FLAC"),
    "of another rate": lambda: write(speech_like(1.0, 44_100), 44_100, "WAV"),
}


def folder_of(name: str, tmp_path: Path) -> str:
    family, settings = FAMILIES[name]
    folder = family.write(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


def made(processor: AudioProcessor, media: bytes) -> tuple[dict[str, Any], list[int]]:
    """The arrays of a sound's file, and the tokens that replace its placeholder."""
    processors = Processors("float32", audio=processor)
    recipe = examine(processors, media, Ask("audio"))
    slot = memoryview(bytearray(b"\xaa" * recipe.layout.length_bytes))
    done = materialise(processors, media, recipe, slot)
    arrays = dict(views(recipe.layout.tensors, slot))
    assert done.bytes_written == sum(array.nbytes for array in arrays.values())
    return arrays, list(chain.from_iterable(repeat(token, count) for token, count in recipe.layout.expansion))


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("name", WHOLE)
def test_the_whole_processor(name: str, sound: str, tmp_path: Path) -> None:
    folder, media = folder_of(name, tmp_path), SOUNDS[sound]()
    processor = generic_sounds(folder, "float32")
    arrays, ids = made(processor, media)
    whole = AutoProcessor.from_pretrained(folder)
    samples = audio.decode(media, 16_000, audio.examine(processor, media).samples)
    theirs = dict(whole(text=[whole.audio_token], audio=[samples], sampling_rate=16_000, return_tensors="pt"))
    assert ids == theirs.pop("input_ids")[0].tolist()
    theirs.pop("attention_mask")
    assert arrays.keys() == theirs.keys()
    for tensor, values in theirs.items():
        np.testing.assert_array_equal(arrays[tensor], values.numpy(), strict=True)


@pytest.mark.parametrize("sound", SOUNDS)
def test_a_feature_extractor(sound: str, tmp_path: Path) -> None:
    """Phi-4-multimodal's Processor needs torchvision for images, so its parts are compared."""
    folder, media = folder_of("phi4", tmp_path), SOUNDS[sound]()
    processor = generic_sounds(folder, "float32")
    arrays, ids = made(processor, media)
    samples = audio.decode(media, 16_000, audio.examine(processor, media).samples)
    theirs = AutoFeatureExtractor.from_pretrained(folder)([samples], sampling_rate=16_000, return_tensors="pt")
    assert ids == [processor.placeholder_id] * int(theirs["audio_embed_sizes"])
    assert list(arrays) == ["audio_input_features", "audio_embed_sizes"]
    for tensor, values in theirs.items():
        np.testing.assert_array_equal(arrays[tensor], values.numpy(), strict=True)


def test_encodings_hold_the_same_values(tmp_path: Path) -> None:
    folder, media = folder_of("phi4", tmp_path), SOUNDS["seven seconds"]()
    exact, _ = made(generic_sounds(folder, "float32"), media)
    stored, _ = made(generic_sounds(folder, "bfloat16"), media)
    features = exact["audio_input_features"]
    np.testing.assert_array_equal(stored["audio_input_features"], cast(features, "bfloat16"), strict=True)
    theirs = torch.from_numpy(features).to(torch.bfloat16).view(torch.int16).numpy()
    np.testing.assert_array_equal(stored["audio_input_features"].view(np.int16), theirs)
    assert stored["audio_embed_sizes"].dtype == np.int64


def config(folder: str, **options: Any) -> Config:
    return Config(model="", model_folder=folder, served_name="", device="none", **options)


def test_a_sidecar_is_told_and_a_server_takes_none(tmp_path: Path) -> None:
    folder = folder_of("glmasr", tmp_path)
    served = choose(config(folder, kind="sidecar"))
    assert type(served.for_sounds) is HuggingFaceAudioProcessor
    assert served.for_sounds.placeholder_id == 5
    with pytest.raises(ValueError, match=r"sounds of GlmAsrProcessor are not built"):
        choose(config(folder))


def test_without_the_flag_it_is_refused(tmp_path: Path) -> None:
    folder = folder_of("glmasr", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_audio", "audio_token_id": 5}))
    with pytest.raises(ValueError, match=r"sounds of GlmAsrProcessor are not built\. Start with --generic"):
        choose(config(folder, kind="sidecar", generic=False))


def test_the_reason_is_transformers_own(tmp_path: Path) -> None:
    folder = folder_of("phi4", tmp_path)
    path = tmp_path / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"feature_extractor_type": "GraniteSpeechFeatureExtractor"}))
    with pytest.raises(ValueError, match="GraniteSpeechFeatureExtractor requires the torchaudio library"):
        generic_sounds(folder, "float32")
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "WhisperProcessor"}))
    path.write_text(json.dumps(WHISPER))
    with pytest.raises(ValueError, match="WhisperProcessor has no placeholder"):
        generic_sounds(folder, "float32")


def test_sounds_that_the_model_cannot_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor = generic_sounds(folder_of("phi4", tmp_path), "float32")
    with pytest.raises(RequestError, match="transformers cannot take a sound of this length: ") as caught:
        processor.layout(10)
    assert caught.value.status == 400
    monkeypatch.setattr(sound_calls, "SECONDS_MAX", 2)
    assert processor.layout(32_000).tensors
    with pytest.raises(RequestError, match="the sound is too long"):
        made(processor, SOUNDS["seven seconds"]())


def test_fingerprints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (folder_of(name, tmp_path / name) for name in WHOLE)
    first = generic_sounds(one, "float32").fingerprint
    assert generic_sounds(one, "float32").fingerprint == first
    assert len({first, generic_sounds(one, "float16").fingerprint, generic_sounds(other, "float32").fingerprint}) == 3
    monkeypatch.setattr("mmplane.features.checkpoint.files._version", lambda name: f"another {name}")
    assert generic_sounds(one, "float32").fingerprint != first


MUTANTS = [
    Mutant(
        "nothing is cut off",
        HuggingFaceAudioProcessor._measure,
        "if samples >= self.samples_max",
        "if False",
        test_sounds_that_the_model_cannot_take,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_mutants_are_killed(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
