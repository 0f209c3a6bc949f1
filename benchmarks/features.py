"""Fast processors against transformers' own: milliseconds of one core for one item, decoding left out.

    python benchmarks/features.py [--rounds 21] [--json FILE] [--only images|video|audio]

The references are the checkpoint family's own processors: for images the PIL backend, called on a decoded PIL image,
and the torch backend, called on a decoded tensor; for videos the torch backend, the only one there is; for sounds the
NumPy path and the extractor's own call, which computes in torch. What it would cost to copy their output into a slot is
left out, in their favour. Ours is `write` from decoded media into an array that is already mapped. Every round runs
each once, in turn; the table gives medians of CPU time on one pinned core with one thread, and the ratios of those
medians. Bias: the images are photographs scaled to size, and one process has the core to itself, so nothing competes
for the cache.

The torch backend needs torchvision, whose wheel does not load beside a CPU torch: `make install-dev` puts it into a
folder of its own, and the operators that it misses are declared here. Where the folder is missing, so is the column.
"""

# ruff: noqa: E402 - torchvision must be findable before transformers is imported
from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

TORCHVISION = Path(sys.prefix) / "reference"
if TORCHVISION.exists():  # before transformers is imported, which looks for it once
    sys.path.append(str(TORCHVISION))
    operators = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        operators.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import transformers

from mmplane.core.records import Clip
from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.arithmetic.resize import Resize
from mmplane.features.checkpoint import defaults
from mmplane.features.checkpoint.audio import AudioCheckpoint
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.checkpoint.video import TELLS_SECONDS, VideoCheckpoint
from mmplane.features.checkpoint.vocabulary import Vocabulary
from mmplane.features.contract.arrays import views
from mmplane.features.contract.image import FEATURES, ImageProcessor, Pixels
from mmplane.features.contract.video import VIDEO_FEATURES
from mmplane.features.families.log_mel import LogMelProcessor
from mmplane.features.families.names import FAST
from mmplane.features.families.qwen_video import QwenVideoProcessor
from mmplane.features.reference.checkpoint import ReferenceCheckpoint
from mmplane.features.reference.parity import materialise
from mmplane.features.reference.sounds import numpy_path

ENCODINGS: tuple[Encoding, ...] = ("float32", "bfloat16", "uint8")
CLIPS: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen2.5-VL video": ("Qwen2VLVideoProcessor", {}),
    "Qwen3-VL video": ("Qwen3VLVideoProcessor", {"size": {"shortest_edge": 4096, "longest_edge": 25165824}}),
    "Qwen3-VL video, tiny": ("Qwen3VLVideoProcessor", {}),
}
CLIP_SIZE = (1280, 720)
FRAMES = 16
SOUNDS = {"Whisper, 80 bands": (80, 30), "Qwen-Audio, 128 bands": (128, 30), "Qwen-Audio, 128 bands, 5 s": (128, 5)}
RATE_HZ = 16_000
SIZES = ((1120, 700), (1288, 966), (3840, 2160))

CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen2.5-VL, 1 Mpixel": ("Qwen2VLImageProcessor", {"min_pixels": 3136, "max_pixels": 28 * 28 * 1280}),
    "Qwen2.5-VL, as published": ("Qwen2VLImageProcessor", {"min_pixels": 3136, "max_pixels": 12845056}),
    "Qwen3-VL, patch 16": ("Qwen2VLImageProcessor", {"patch_size": 16, "min_pixels": 65536, "max_pixels": 16777216}),
    "LLaVA-1.5 (CLIP 336)": ("CLIPImageProcessor", {"size": {"shortest_edge": 336}, "crop_size": 336}),
    "SigLIP 384": ("SiglipImageProcessor", {"size": {"height": 384, "width": 384}}),
    "Gemma 3 (896)": ("Gemma3ImageProcessor", {"size": {"height": 896, "width": 896}}),
    "InternVL (448, 12 tiles)": ("GotOcr2ImageProcessor", {"size": {"height": 448, "width": 448}}),
    "LLaVA-NeXT (336)": ("LlavaNextImageProcessor", {"size": {"shortest_edge": 336}, "crop_size": 336}),
    "GLM-4.1V": ("Glm4vImageProcessor", {}),
    "Idefics3 (364)": ("Idefics3ImageProcessor", {}),
    "SmolVLM 2 (512)": (
        "SmolVLMImageProcessor",
        {"size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": 512}},
    ),
    "PaddleOCR-VL": ("PaddleOCRVLImageProcessor", {"min_pixels": 147384, "max_pixels": 2822400}),
    "MiniCPM-V 4.6": ("MiniCPMV4_6ImageProcessor", {}),
}


ASIDE = ("num_patches", "num_crops", "grids", "num_patches_per_image")
"""What processors give for prompts alone."""


class Tokens(Vocabulary):
    """Stands in for a checkpoint's tokenizer, which is not measured."""

    def named(self, name: str, default: str | None = None) -> str:
        return default or name

    def ids(self, text: str) -> tuple[int, ...]:
        return (len(text),)


class Rules:
    """Stands in for a checkpoint's prompt rules, which are not measured."""

    image_token = "<image>"

    def __init__(self, image_processor: Any) -> None:
        self._image_processor = image_processor

    def __call__(self, *, images: list[Image.Image], **_: object) -> Mapping[str, Any]:
        outputs = dict(self._image_processor(images, return_tensors="np"))
        return {name: value for name, value in outputs.items() if name not in ASIDE}

    def _process_images(self, images: list[Image.Image], **options: Any) -> tuple[Mapping[str, Any], list[str]]:
        return self._image_processor(images, **options), [self.image_token]

    def replace_image_token(self, *_: object) -> str:
        return self.image_token

    def encode(self, *_: object, **__: object) -> list[int]:
        return [0]


def load(kind: str, options: dict[str, Any]) -> ReferenceCheckpoint:
    name = f"{kind}Pil"
    image_processor = getattr(transformers, name)(**options)
    rules = Rules(image_processor)
    more = {"crop_to_patches": True} if kind == "GotOcr2ImageProcessor" else {}
    return ReferenceCheckpoint(
        CheckpointFiles("/nowhere"), rules, image_processor, rules, {"return_tensors": "np", **more}
    )


def writing(processor: ImageProcessor, pixels: Pixels) -> Callable[[], object]:
    layout = processor.layout(pixels.shape[1], pixels.shape[0])
    arrays = views(layout.tensors, memoryview(bytearray(layout.length_bytes)))
    return lambda: processor.write(pixels, arrays)


def measure(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median CPU milliseconds of each, taken in turn."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started_s = time.process_time()
            run()
            taken[name].append((time.process_time() - started_s) * 1000)
    return {name: statistics.median(values) for name, values in taken.items()}


def row(label: str, size: list[int], medians: dict[str, float], references: list[str]) -> dict[str, Any]:
    """One line of the table: each of ours over each reference."""
    ours = [name for name in medians if name not in references]
    ratios = {name: {other: medians[other] / medians[name] for other in references} for name in ours}
    print(f"{label:26} {' x '.join(map(str, size)):16}", end="")
    print("".join(f"  {name} {medians[name]:.2f} ms" for name in references), end="")
    for name in ours:
        times = " ".join(f"{ratio:.1f}x" for ratio in ratios[name].values())
        print(f"  | {name} {medians[name]:.2f} ms {times}", end="")
    print(flush=True)
    return {"family": label, "size": size, "ms": medians, "ratio": ratios}


def image_rows(rounds: int) -> list[dict[str, Any]]:
    photograph = Image.fromarray(load_sample_images().images[0])
    found = []
    for label, (kind, options) in CONFIGURATIONS.items():
        checkpoint = load(kind, options)
        described = checkpoint.described()
        family = FAST[described.kind]
        for width, height in SIZES:
            image = photograph.resize((width, height))
            pixels = np.asarray(image)
            same = materialise(family(described, "float32"), pixels)[FEATURES]
            assert np.array_equal(same, checkpoint.outputs(image)[FEATURES]), label
            runs: dict[str, Callable[[], object]] = {"Pil": partial(checkpoint.outputs, image)}
            if TORCHVISION.exists():
                given = {**checkpoint.images_kwargs, "return_tensors": "pt"}
                tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
                runs["torch"] = partial(getattr(transformers, kind)(**options), [tensor], **given)
            references = list(runs)
            runs |= {encoding: writing(family(described, encoding), pixels) for encoding in ENCODINGS}
            found.append(row(label, [width, height], measure(runs, rounds), references))
    return found


def video_rows(rounds: int) -> list[dict[str, Any]]:
    photograph = Image.fromarray(load_sample_images().images[0]).resize((CLIP_SIZE[0] + 64, CLIP_SIZE[1] + 64))
    wide = np.asarray(photograph)
    frames = np.stack([wide[2 * i :, 2 * i :][: CLIP_SIZE[1], : CLIP_SIZE[0]] for i in range(FRAMES)])
    clip = Clip(*CLIP_SIZE, FRAMES, 2.0, tuple(range(FRAMES)))
    files = CheckpointFiles("/nowhere")
    found = []
    for label, (kind, changes) in CLIPS.items():
        options = {"cap_pixels_per_frame": False, "do_sample_frames": False, **changes}
        checkpoint = VideoCheckpoint(files, Tokens(files), kind, TELLS_SECONDS, {**defaults.CLIPS[kind], **options})
        runs: dict[str, Callable[[], object]] = {}
        if TORCHVISION.exists():
            processor = getattr(transformers, kind)(**options)
            runs["torch"] = partial(processor, [torch.from_numpy(frames).permute(0, 3, 1, 2)], return_tensors="pt")
        references = list(runs)
        for encoding in ENCODINGS:
            ours = QwenVideoProcessor(checkpoint, encoding, Resize.bands)
            layout = ours.layout(clip)
            arrays = views(layout.tensors, memoryview(bytearray(layout.length_bytes)))
            runs[encoding] = partial(ours.write, frames, clip, arrays)
            if encoding == "float32" and references:
                ours.write(frames, clip, arrays)
                assert np.array_equal(arrays[VIDEO_FEATURES], runs["torch"]()[VIDEO_FEATURES].numpy()), label
        found.append(row(label, [FRAMES, *CLIP_SIZE], measure(runs, rounds), references))
    return found


def audio_rows(rounds: int) -> list[dict[str, Any]]:
    noise, found = np.random.default_rng(0), []
    for label, (bands, seconds) in SOUNDS.items():
        extractor = transformers.WhisperFeatureExtractor(feature_size=bands)
        options = {**defaults.SOUNDS, "feature_size": bands}
        checkpoint = AudioCheckpoint(CheckpointFiles("/nowhere"), options, None, None)
        moments = np.arange(seconds * RATE_HZ) / RATE_HZ
        chirp = np.sin(2 * np.pi * (200 + 40 * moments) * moments) * np.sin(3 * moments) ** 2
        samples = (0.3 * chirp + 0.01 * noise.standard_normal(moments.size)).astype(np.float32)
        runs: dict[str, Callable[[], object]] = {
            "NumPy": partial(numpy_path, checkpoint, samples),
            "call (torch)": partial(extractor, samples, sampling_rate=RATE_HZ, return_tensors="pt"),
        }
        references = list(runs)
        for encoding in ENCODINGS[:2]:
            ours = LogMelProcessor(checkpoint, encoding)
            layout = ours.layout(samples.size)
            runs[encoding] = partial(
                ours.write, samples, views(layout.tensors, memoryview(bytearray(layout.length_bytes)))
            )
        found.append(row(label, [seconds], measure(runs, rounds), references))
    return found


def environment() -> dict[str, Any]:
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "unknown")
    return {
        "cpu": model.split(":")[-1].strip(),
        "cores_used": 1,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "torch_backend": "measured" if TORCHVISION.exists() else f"not measured: nothing in {TORCHVISION.name}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--json", type=Path)
    kinds = {"images": image_rows, "video": video_rows, "audio": audio_rows}
    parser.add_argument("--only", choices=kinds)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    chosen = [arguments.only] if arguments.only else list(kinds)
    report = {
        "environment": environment(),
        "rows": [found for name in chosen for found in kinds[name](arguments.rounds)],
    }
    print(report["environment"])
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
