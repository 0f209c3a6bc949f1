"""Items, media and features need neither torch nor transformers: a process without them makes the same features."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import soundfile
from PIL import Image

import clips
import features_made
from features.checkpoints import FAMILIES
from features.families.test_log_mel import RATE, folder_of, speech_like
from features.families.test_qwen_video import write
from mmplane.models.tiny import build_tiny

ALONE = ("llava_siglip", "pixtral", "glm4v", "paddle_ocr")
HEAVY = {"torch", "transformers", "tokenizers", "huggingface_hub", "safetensors", "starlette", "uvicorn"}


def test_an_image_a_clip_and_a_sound_without_torch_and_transformers(tmp_path: Path) -> None:
    picture, clip, sound = (str(tmp_path / name) for name in ("picture.jpg", "clip.mp4", "sound.wav"))
    Image.linear_gradient("L").convert("RGB").resize((230, 170)).save(picture)
    Path(clip).write_bytes(clips.encode(clips.moving()))
    soundfile.write(sound, speech_like(1.0), RATE)
    build_tiny(tmp_path / "tiny")
    qwen = write("qwen2.5, sampled", tmp_path / "qwen")
    cases = [
        (str(tmp_path / "tiny"), "image", picture, "pil"),
        (qwen, "image", picture, "pil"),
        (qwen, "image", picture, "torchvision"),
        (qwen, "video", clip, "pil"),
        *((FAMILIES[name].write(tmp_path / name), "image", picture, "pil") for name in ALONE),
        (folder_of(tmp_path / "audio"), "audio", sound, "pil"),
    ]
    command = [sys.executable, features_made.__file__, json.dumps(cases)]
    apart = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert HEAVY & set(apart["loaded"]) == set()
    made = [tuple(each) for each in apart["made"]]
    assert made == features_made.features_made(cases)
    assert len(set(made)) == len(cases)
