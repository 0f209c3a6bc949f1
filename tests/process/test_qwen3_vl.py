"""Qwen3-VL: rows for several layers, moments with their times in the prompt; transformers' own features and tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from blake3 import blake3
from live import serving
from pictures import part, photograph, text
from qwen3_vl import build_qwen3_vl
from reference import Reference

from clips import clip_part, decoded, real, recorded
from torchvision_reference import INSTALL, TORCHVISION, reference_process

TOKENS_MAX = 8
MARK = "\x01"


def test_tokens_and_features(tmp_path: Path) -> None:
    if not TORCHVISION.exists():
        pytest.fail(f"transformers' video processors need torchvision: {INSTALL}")
    folder = tmp_path / "qwen3-vl"
    build_qwen3_vl(folder)
    reference = Reference(folder)
    media, picture = real("carphone_pristine"), photograph("flower")
    content = [clip_part(media), text("and"), part(picture), text("What is this?")]
    prompt = reference.prompt(content, {"image_url": "image", "video_url": "video"})
    image = reference.features(picture)
    tokens = int(image["image_grid_thw"].prod()) // 4
    prompt = prompt.replace("<|image_pad|>", MARK)  # whose processor is asked for clips alone
    frames, seconds = decoded(media)
    fps = (len(seconds) - 1) / (seconds[-1] - seconds[0])
    metadata = {"total_num_frames": len(frames), "fps": fps, "frames_indices": list(range(len(frames)))}
    with reference_process(tmp_path) as processor:
        clip = processor.clip(str(folder), frames, prompt, metadata | {"sample": True})
    config = reference.model.config
    mark = reference.tokenizer.encode(MARK, add_special_tokens=False)[0]
    given = clip["input_ids"][0].tolist()
    at = given.index(mark)
    ids = torch.tensor([given[:at] + [config.image_token_id] * tokens + given[at + 1 :]])
    inputs: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == config.image_token_id).int() + 2 * (ids == config.video_token_id).int(),
        "pixel_values_videos": torch.from_numpy(clip["pixel_values_videos"]),
        "video_grid_thw": torch.from_numpy(clip["video_grid_thw"]),
        **image,
    }
    want = reference.answer(inputs, TOKENS_MAX)
    assert want.margin > 1e-3, want
    with serving(folder) as live:
        answer = live.chat(content, max_tokens=TOKENS_MAX, mmplane={"trace": True}).json()
        browser = [clip_part(recorded("mediarecorder.webm"), "video/webm"), text("What is this?")]
        seen = live.chat(browser, max_tokens=1, mmplane={"trace": True}).json()["mmplane"]["trace"]["items"][0]
    trace = answer["mmplane"]["trace"]
    assert answer["usage"]["prompt_tokens"] == ids.shape[1]
    digest = blake3(clip["pixel_values_videos"].tobytes()).hexdigest()
    assert trace["items"][0]["digests"] == {"0": digest, "1": digest}
    assert trace["token_ids"] == [want.tokens]
    sampling = seen["sampling"]
    assert sampling["fps"] == pytest.approx(5.0, abs=0.05), "the clip's own rate: its container has none"
    assert (len(sampling["frames"]), sampling["frames_total"]) == (32, 100), (
        "two a second, no more than the server takes"
    )
    assert sampling["seconds"][-1] == pytest.approx(19.8, abs=0.01)
