"""Log-mel features: transformers' NumPy path to 1 ulp, and its torch path to what transformers itself promises."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoTokenizer,
    Qwen2AudioProcessor,
    VoxtralConfig,
    VoxtralForConditionalGeneration,
    VoxtralProcessor,
    WhisperFeatureExtractor,
)
from transformers.models.whisper import feature_extraction_whisper

from features.checkpoints import Family
from mmplane.core.errors import RequestError
from mmplane.features.arithmetic import mel
from mmplane.features.arithmetic.encodings import Encoding, cast
from mmplane.features.checkpoint import defaults
from mmplane.features.checkpoint.audio import RULES, AudioCheckpoint
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.contract.arrays import views
from mmplane.features.contract.audio import AUDIO_FEATURES
from mmplane.features.families.log_mel import LogMelProcessor
from mmplane.features.families.names import KNOWN
from mmplane.features.reference.parity import _ordered, ulps_apart
from mmplane.features.reference.sounds import numpy_path
from mmplane.features.select import audio_processor

SPECIAL = {"audio_token": "<|AUDIO|>", "audio_bos_token": "<|audio_bos|>", "audio_eos_token": "<|audio_eos|>"}
RATE = 16_000
NOISE = np.random.default_rng(0)


def folder_of(tmp_path: Path, rules: str = "Qwen2AudioProcessor", **changes: Any) -> str:
    settings_ = WhisperFeatureExtractor(**{"feature_size": 128, **changes}).to_dict()
    model = {"WhisperProcessor": "whisper", "VoxtralProcessor": "voxtral"}.get(rules, "qwen2_audio")
    written = Family(settings_, {"processor_class": rules}, model, SPECIAL).write(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings_, default=list))
    return written


def speech_like(seconds: float) -> Any:
    """Voiced chirps with harmonics and a slow envelope, pauses between them, over a little noise."""
    t = np.arange(int(seconds * RATE)) / RATE
    pitch = 120 + 60 * np.sin(2 * np.pi * 0.7 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    voiced = sum(np.sin(k * phase) / k**1.3 for k in range(1, 30))
    envelope = np.clip(np.sin(2 * np.pi * 1.7 * t), 0, None) ** 2
    return (0.2 * voiced * envelope + 0.001 * NOISE.standard_normal(t.size)).astype(np.float32)


SOUNDS = {
    "speech-like, 7 s": lambda: speech_like(7.0),
    "speech-like, all 30 s": lambda: speech_like(30.0),
    "too long": lambda: speech_like(33.3),
    "noise, loud": lambda: NOISE.uniform(-1, 1, 5 * RATE).astype(np.float32),
    "noise, faint": lambda: (1e-6 * NOISE.standard_normal(3 * RATE)).astype(np.float32),
    "a click": lambda: np.eye(1, RATE, 777, dtype=np.float32)[0],
    "clipped square wave": lambda: np.sign(np.sin(np.arange(2 * RATE) * 0.1)).astype(np.float32),
    "silence": lambda: np.zeros(RATE, np.float32),
    "16-bit steps": lambda: (np.round(speech_like(4.0) * 32768) / 32768).astype(np.float32),
    "ends in the last column": lambda: NOISE.uniform(-1, 1, 30 * RATE - 90).astype(np.float32),
    "one sample": lambda: np.ones(1, np.float32),
}


@pytest.fixture(scope="module", params=[80, 128])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AudioCheckpoint:
    return AudioCheckpoint.load(folder_of(tmp_path_factory.mktemp("audio"), feature_size=request.param), KNOWN)


def materialise(processor: LogMelProcessor, samples: Any) -> dict[str, Any]:
    layout = processor.layout(len(samples))
    arrays = views(layout.tensors, memoryview(bytearray(b"\xaa" * layout.length_bytes)))
    processor.write(samples, arrays)
    return dict(arrays)


@pytest.mark.parametrize("name", SOUNDS)
def test_numpy_path_to_one_ulp(name: str, checkpoint: AudioCheckpoint) -> None:
    samples = SOUNDS[name]()
    ours = np.empty((checkpoint.options["feature_size"], 3000), np.float32)
    LogMelProcessor(checkpoint)._fill(samples[: 30 * RATE], ours)
    theirs = numpy_path(checkpoint, samples)[0]
    assert ulps_apart(checkpoint, samples) <= 1
    assert np.count_nonzero(ours != theirs) <= 3  # of 240,000 or more


@pytest.mark.parametrize("name", SOUNDS)
def test_torch_path_to_its_tolerance(name: str, checkpoint: AudioCheckpoint) -> None:
    """Where torch is installed the extractor's own call takes this path; its own two differ by 2e-5 at most here."""
    samples = SOUNDS[name]()
    extractor = WhisperFeatureExtractor(**checkpoint.options)
    theirs = extractor(samples, sampling_rate=RATE, return_tensors="np")["input_features"]
    assert theirs.shape == (1, checkpoint.options["feature_size"], 3000)
    differences = np.abs(theirs - numpy_path(checkpoint, samples))
    assert float(differences.max()) < 5e-5
    ours = np.empty_like(theirs)
    LogMelProcessor(checkpoint)._fill(samples[: 30 * RATE], ours[0])
    assert float(np.abs(ours - theirs).max()) <= float(differences.max()) + 1e-6


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(1, 31 * RATE), st.integers(0, 2**32 - 1))
def test_lengths(length: int, seed: int) -> None:
    plain = AudioCheckpoint(CheckpointFiles("/nowhere"), defaults.SOUNDS, None, None)
    assert ulps_apart(plain, np.random.default_rng(seed).uniform(-0.5, 0.5, length).astype(np.float32)) <= 1


def test_the_whole_processor(tmp_path: Path) -> None:
    """Mask, prompt and shapes against Qwen2-Audio's own processor, for lengths around the edges of its rules."""
    folder = folder_of(tmp_path)
    processor = audio_processor(folder)
    processor.warm()
    assert processor.sampling_rate_hz == RATE
    tokenizer = AutoTokenizer.from_pretrained(folder)
    extractor = WhisperFeatureExtractor.from_pretrained(folder)
    whole = Qwen2AudioProcessor(extractor, tokenizer)
    for length in (481, 640, 641, 1_000, 15_999, 16_001, 479_999, 480_000, 500_000):
        samples = NOISE.uniform(-1, 1, length).astype(np.float32)
        theirs = whole(text="a<|AUDIO|>b", audio=[samples], sampling_rate=RATE, return_tensors="np")
        ours = materialise(processor, samples)
        np.testing.assert_array_equal(
            ours["feature_attention_mask"], theirs["feature_attention_mask"].astype(np.int32), strict=True
        )
        assert ours[AUDIO_FEATURES].shape == theirs["input_features"].shape
        ((token, count),) = processor.layout(length).expansion
        assert token == processor.placeholder_id
        assert count == int((theirs["input_ids"] == token).sum())


def test_whisper_has_features_alone(tmp_path: Path) -> None:
    processor = audio_processor(folder_of(tmp_path, "WhisperProcessor", feature_size=80))
    layout = processor.layout(RATE)
    assert processor.placeholder_id is None
    assert layout.expansion == ()
    assert [(tensor.name, tensor.shape) for tensor in layout.tensors] == [(AUDIO_FEATURES, (1, 80, 3000))]


VOXTRAL_SECONDS = (0.1, 29.99, 30.0, 30.01, 47.0, 90.0)


@pytest.mark.parametrize("seconds", VOXTRAL_SECONDS)
def test_voxtral_hears_long_sounds_in_chunks(seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of features for each half minute, of one transform of the whole; its own processor by its NumPy path."""
    processor = audio_processor(folder_of(tmp_path, "VoxtralProcessor"))
    samples = speech_like(seconds)
    monkeypatch.setattr(feature_extraction_whisper, "is_torch_available", lambda: False)
    own = SimpleNamespace(feature_extractor=WhisperFeatureExtractor(feature_size=128))
    theirs = VoxtralProcessor._retrieve_input_features(own, [samples], **VoxtralProcessor.audio_kwargs).numpy()
    arrays = materialise(processor, samples)
    assert list(arrays) == [AUDIO_FEATURES]
    assert arrays[AUDIO_FEATURES].shape == theirs.shape
    assert np.abs(_ordered(arrays[AUDIO_FEATURES]) - _ordered(theirs)).max() <= 1
    assert processor.layout(len(samples)).expansion == ((24, 375 * len(theirs)),)


def test_voxtrals_tokens_are_as_many_as_its_model_makes() -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "num_mel_bins": 128}
    text = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "vocab_size": 32,
    }
    config = VoxtralConfig(audio_config={**sizes, "intermediate_size": 32}, text_config=text)
    model = VoxtralForConditionalGeneration(config)
    with torch.no_grad():
        found = model.get_audio_features(torch.zeros((2, 128, 3000)), return_dict=True)
    assert len(found.pooler_output) == RULES["VoxtralProcessor"].tokens(2 * 3000)


def test_voxtral_hears_forty_minutes(tmp_path: Path) -> None:
    processor = audio_processor(folder_of(tmp_path, "VoxtralProcessor"))
    assert processor.samples_max == 40 * 60 * RATE
    assert processor.layout(50 * 60 * RATE) == processor.layout(40 * 60 * RATE)
    assert processor.layout(40 * 60 * RATE).tensors[0].shape == (80, 128, 3000)


@pytest.mark.parametrize("encoding", ["bfloat16", "float16"])
def test_encodings_hold_the_same_values(encoding: Encoding, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    samples = speech_like(2.0)
    exact = materialise(audio_processor(folder), samples)[AUDIO_FEATURES]
    stored = materialise(audio_processor(folder, encoding=encoding), samples)[AUDIO_FEATURES]
    np.testing.assert_array_equal(stored, cast(exact, encoding), strict=True)
    dtype = getattr(torch, encoding)
    np.testing.assert_array_equal(stored.view(np.int16), torch.from_numpy(exact).to(dtype).view(torch.int16).numpy())


def test_fingerprints_differ_by_encoding_and_configuration(tmp_path: Path) -> None:
    one, other = folder_of(tmp_path / "one"), folder_of(tmp_path / "other", feature_size=80)
    found = {
        audio_processor(one).fingerprint,
        audio_processor(one, encoding="bfloat16").fingerprint,
        audio_processor(other).fingerprint,
    }
    assert len(found) == 3
    assert audio_processor(one).fingerprint in found


def test_sounds_and_slots_that_do_not_fit(tmp_path: Path) -> None:
    processor = audio_processor(folder_of(tmp_path))
    for length in (0, 1, 320):
        with pytest.raises(RequestError) as caught:
            processor.layout(length)
        assert caught.value.status == 400
    arrays = materialise(processor, speech_like(1.0))
    with pytest.raises(RuntimeError, match="shape"):
        processor.write(speech_like(1.0), arrays | {AUDIO_FEATURES: arrays[AUDIO_FEATURES][..., :-1]})


def test_other_configurations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not built"):
        audio_processor(folder_of(tmp_path / "dither", dither=0.1))
    with pytest.raises(ValueError, match="uint8"):
        audio_processor(folder_of(tmp_path / "bytes"), encoding="uint8")
    with pytest.raises(ValueError, match="prompt rules"):
        audio_processor(folder_of(tmp_path / "rules", "GraniteSpeechProcessor"))


def test_a_difference_brings_transformers_own_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path)
    slow = audio_processor(folder, fast=False)
    samples = speech_like(1.0)
    monkeypatch.setattr(mel, "hann", np.hamming)
    with caplog.at_level(logging.WARNING):
        processor = audio_processor(folder)
    assert "differ" in caplog.text
    theirs = numpy_path(processor._checkpoint, samples)
    np.testing.assert_array_equal(materialise(processor, samples)[AUDIO_FEATURES], theirs, strict=True)
    np.testing.assert_array_equal(materialise(slow, samples)[AUDIO_FEATURES], theirs, strict=True)


def test_bytes_written_are_counted_and_are_the_features(tmp_path: Path) -> None:
    processor = audio_processor(folder_of(tmp_path))
    layout = processor.layout(RATE)
    arrays = views(layout.tensors, memoryview(bytearray(layout.length_bytes)))
    assert processor.write(speech_like(1.0), arrays) == sum(array.nbytes for array in arrays.values())
