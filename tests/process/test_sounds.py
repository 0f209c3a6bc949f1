"""Sounds: plain transformers' tokens, from the samples that soundfile gives; a model without pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from blake3 import blake3
from live import Live, serving
from pictures import noise, part, text
from qwen_audio import SECONDS, build_qwen_audio
from reference import Expected, Reference
from transformers import WhisperFeatureExtractor

from accepted import SOUND_SECONDS, SOUNDS
from clips import encode, moving
from mmplane.config import Config
from mmplane.core.records import Ask
from mmplane.features.choice import choose
from mmplane.media.materialise import examine, materialise
from sounds import cut_short, sound_part, speech_like, write, write_in_container

TOKENS_MAX = 8
RATE_HZ = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "qwen-audio"
    build_qwen_audio(path)
    return path


@pytest.fixture(scope="module")
def listening(folder: Path) -> Iterator[Live]:
    with serving(folder) as live:
        yield live


def samples_of(media: bytes) -> np.ndarray:
    """As librosa loads it: averaged, resampled in one piece."""
    sound, rate_hz = soundfile.read(io.BytesIO(media), dtype="float32", always_2d=True)
    mono = sound[:, 0] if sound.shape[1] == 1 else sound.mean(axis=1)
    return mono if rate_hz == RATE_HZ else soxr.resample(mono, rate_hz, RATE_HZ, quality="HQ")


def features_of(folder: Path, media: bytes) -> dict[str, torch.Tensor]:
    """What transformers' own feature extractor gives for a sound."""
    extractor = WhisperFeatureExtractor.from_pretrained(folder)
    found = extractor(
        samples_of(media),
        sampling_rate=RATE_HZ,
        return_attention_mask=True,
        padding="max_length",
        return_tensors="pt",
    )
    return {"input_features": found["input_features"], "feature_attention_mask": found["attention_mask"]}


def expected(reference: Reference, content: Any, media: list[bytes]) -> Expected:
    kinds = [{"type": "audio"} if part["type"] != "text" else part for part in content]
    prompt = reference.tokenizer.apply_chat_template(
        [{"role": "user", "content": kinds}], add_generation_prompt=True, tokenize=False
    )
    features = [features_of(reference.folder, each) for each in media]
    for each in features:
        columns = int(each["feature_attention_mask"].sum())
        prompt = prompt.replace("<|AUDIO|>", "<mark>" * ((((columns - 1) // 2 + 1) - 2) // 2 + 1), 1)
    ids = reference.tokenizer(prompt.replace("<mark>", "<|AUDIO|>"), add_special_tokens=False, return_tensors="pt")[
        "input_ids"
    ]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if features:
        inputs |= {name: torch.cat([each[name] for each in features]) for name in features[0]}
    return reference.answer(inputs, TOKENS_MAX)


def own_digest(folder: Path, media: bytes) -> str:
    """Of what one process alone makes of a sound; transformers' own values differ from it by an ulp here and there."""
    processors = choose(Config(model="", model_folder=str(folder), served_name=""))
    recipe = examine(processors, media, Ask("audio"))
    out = memoryview(bytearray(recipe.layout.length_bytes))
    materialise(processors, media, recipe, out)
    tensor = recipe.layout.tensors[0]
    features = np.frombuffer(out, np.float32, int(np.prod(tensor.shape)), tensor.offset_bytes)
    theirs = features_of(folder, media)["input_features"].numpy().ravel()
    np.testing.assert_allclose(features, theirs, atol=2e-4)
    return blake3(features.tobytes()).hexdigest()


def test_tokens_and_features(listening: Live, folder: Path) -> None:
    reference = Reference(folder)
    short, long = write(speech_like(1.3), RATE_HZ, "WAV", "PCM_16"), write(speech_like(6, seed=1), RATE_HZ, "FLAC")
    stereo = write(speech_like(2.1, 44_100, 2, seed=2), 44_100, "WAV", "PCM_24")
    conversations: list[list[bytes]] = [[short], [long], [stereo], [stereo, short], []]
    seen = set()
    for media in conversations:
        content = [*map(sound_part, media), text("What is this?")]
        want = expected(reference, content, media)
        assert want.margin > 1e-3, want
        answer = listening.chat(content, max_tokens=TOKENS_MAX, mmplane={"trace": True}).json()
        trace = answer["mmplane"]["trace"]
        assert trace["token_ids"] == [want.tokens]
        seen.add(str(want.tokens))
        for item, each in zip(trace["items"], media, strict=True):
            digest = own_digest(folder, each)
            assert item["digests"] == {"0": digest, "1": digest}
            assert (item["modality"], item["shape"]) == ("audio", [1, 80, SECONDS * 100])
            assert item["sampling"] == {"samples": min(len(samples_of(each)), SECONDS * RATE_HZ)}
    assert len(seen) == len(conversations), "the answers must depend on the sounds"


def test_every_format_and_way(listening: Live, folder: Path) -> None:
    sound = speech_like(1.1, 48_000, seed=3)
    film = encode(moving(5))
    for media, kind in (
        (write(sound, 48_000, "MP3"), "mp3"),
        (write(sound, 48_000, "OGG", "VORBIS"), "ogg"),
        (write(sound, 48_000, "OGG", "OPUS"), "opus"),
        (write_in_container(sound, 48_000), "m4a"),
        (write_in_container(sound, 48_000, "libopus", "webm"), "webm"),
    ):
        given = {"data": base64.b64encode(media).decode(), "format": kind}
        inline = [{"type": "input_audio", "input_audio": given}, text("?")]
        first = ask(listening, inline)
        again = ask(listening, [sound_part(media, f"audio/{kind}"), text("?")])
        assert [item["cache_hit"] for item in (*first["items"], *again["items"])] == [False, True]
        if kind not in ("m4a", "webm"):  # soundfile reads no such containers: the unit tests have them
            assert first["items"][0]["digests"]["1"] == own_digest(folder, media)
    answer = listening.chat([sound_part(film), text("?")])
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "the file contains no sound")


def test_a_sound_is_read_to_its_end(listening: Live) -> None:
    """By its samples, as the trace tells them: encoders pad MP3s to whole frames."""
    for name, (media, seconds) in cut_short().items():
        (item,) = ask(listening, [sound_part(media, "audio/x"), text("?")])["items"]
        assert seconds - 0.01 < item["sampling"]["samples"] / RATE_HZ < seconds + 0.2, name


def test_every_kind_in_the_table_is_heard_whole(listening: Live) -> None:
    """Some encoders pad to whole frames."""
    for name, make in SOUNDS.items():
        (item,) = ask(listening, [sound_part(make(), "audio/x"), text("?")])["items"]
        assert SOUND_SECONDS - 0.01 < item["sampling"]["samples"] / RATE_HZ < SOUND_SECONDS + 0.2, name


def ask(live: Live, content: Any) -> dict[str, Any]:
    answer = live.chat(content, max_tokens=2, mmplane={"trace": True})
    assert answer.status_code == 200, answer.text
    trace: dict[str, Any] = answer.json()["mmplane"]["trace"]
    return trace


def test_written_once(listening: Live) -> None:
    before = listening.statistics()["plane"]
    (item,) = ask(listening, [sound_part(write(speech_like(2, seed=4), RATE_HZ, "WAV")), text("?")])["items"]
    after = listening.statistics()["plane"]
    mask_bytes = 4 * SECONDS * 100
    assert after["bytes_written"] - before["bytes_written"] == 4 * int(np.prod(item["shape"])) + mask_bytes
    assert after["materialisations"] - before["materialisations"] == 1


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"data": "@@@", "format": "wav"}, "invalid_media"),
        ({"data": base64.b64encode(b"MThd" + bytes(99)).decode(), "format": "wav"}, "invalid_media"),
        ({"data": "AAAA", "format": "midi"}, "invalid_value"),
        ({"data": "", "format": "wav"}, "invalid_value"),
    ],
)
def test_bad_sounds(given: dict[str, str], code: str, listening: Live) -> None:
    answer = listening.chat([{"type": "input_audio", "input_audio": given}, text("?")])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code), answer.text


def test_a_model_without_pictures_says_so(listening: Live) -> None:
    answer = listening.chat([part(noise(71)), text("?")])
    assert answer.status_code == 422
    assert answer.json()["error"]["message"] == "this model takes no images"
