"""Selects the processor of a checkpoint: a fast one if its classes and configuration are known, else the generic one.

A fast one must give the bits of transformers' backend for images, of torch's resize for clips, and of transformers'
NumPy path for sounds. A verdict tells whether it does (`mmplane.features.verdict`). If it does not (because of another
version of Pillow or transformers, or another machine's rounding), transformers and torch serve. They are imported here
and nowhere else on this path.

The only reason to choose the torchvision backend is to get an engine's own bits. So without a verdict it is refused,
while the PIL backend serves with a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from mmplane.core.records import BackendName, Modality
from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.arithmetic.resize import Resize
from mmplane.features.checkpoint.audio import AudioCheckpoint
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.checkpoint.frames import FrameCheckpoint
from mmplane.features.checkpoint.image import Description, ImageCheckpoint
from mmplane.features.checkpoint.video import VideoCheckpoint
from mmplane.features.contract.audio import AudioProcessor
from mmplane.features.contract.image import ImageProcessor
from mmplane.features.contract.video import VideoProcessor
from mmplane.features.families.frame_video import FrameVideoProcessor
from mmplane.features.families.log_mel import LogMelProcessor
from mmplane.features.families.names import FAST, KNOWN
from mmplane.features.families.qwen_video import QwenVideoProcessor
from mmplane.features.verdict import Verdict, verdicts_of

GENERIC = "Start with --generic to run transformers itself in the workers: each loads torch, which takes about 300 MB"

UNCONFIRMED = (
    "this checkpoint's images were not compared with those of torchvision itself. "
    "Install torch and torchvision beside mmplane (workers do not load them)"
)
OR_PIL = ", or take --backend pil"


def image_processor(
    model_folder: str,
    *,
    fast: bool = True,
    encoding: Encoding = "float32",
    backend: BackendName = "pil",
    generic: bool = True,
    verdict: Verdict | None = None,
) -> ImageProcessor:
    """Return the image processor of a checkpoint. `fast=False` requires the generic path, `generic=False` forbids it.

    Raises ValueError if transformers has no such image processor for the checkpoint here, if the torchvision backend
    has not been compared, or if the encoding is uint8 and what serves has no bytes to offer.
    """
    wrong = "this checkpoint's images are of a family without a fast path"
    if fast and (checkpoint := fast_images(model_folder, backend)) is not None:
        wrong, backend = "fast image features differ from transformers' own here", checkpoint.backend.name
        verdict = verdict or verdicts_of(model_folder, ["image"], backend)["image"]
        if verdict == "not compared" and backend == "torchvision":
            raise ValueError(UNCONFIRMED if checkpoint.kind in KNOWN.torchvision else UNCONFIRMED + OR_PIL)
        if verdict != "differs":
            checkpoint = replace(checkpoint, compared=verdict == "same")
            return FAST[checkpoint.kind](checkpoint, encoding)
    if not generic:
        raise ValueError(f"{wrong}. {GENERIC}")
    with _transformers():
        from mmplane.features.reference import images
    return images.generic(model_folder, encoding, fast=fast, backend=backend)


def fast_paths(model_folder: str, modalities: Iterable[Modality], backend: BackendName = "pil") -> list[Modality]:
    """The modalities that a family serves from the files alone."""

    def serves(modality: Modality) -> bool:
        if modality == "image":
            return fast_images(model_folder, backend) is not None
        try:
            if modality == "video":
                if is_frames(model_folder):
                    return FrameVideoProcessor.serves(FrameCheckpoint.load(model_folder, KNOWN))
                return QwenVideoProcessor.serves(VideoCheckpoint.load(model_folder, KNOWN))
            LogMelProcessor(AudioCheckpoint.load(model_folder, KNOWN))
        except ValueError:
            return False
        return True

    return [modality for modality in modalities if serves(modality)]


def image_backend(model_folder: str, backend: BackendName) -> BackendName:
    """The backend that serves a checkpoint's images if this one is requested, because some families have only one."""
    described = _described(model_folder)
    return "torchvision" if described is not None and described.kind in KNOWN.torchvision else backend


def numbers_images(model_folder: str) -> bool:
    """Whether a prompt counts its images, so that an image's tokens depend on the images before it."""
    described = _described(model_folder)
    return described is not None and bool(described.options.get("use_image_id"))


def _described(model_folder: str) -> Description | None:
    try:
        return Description.of(CheckpointFiles(model_folder), KNOWN)
    except ValueError:
        return None


def fast_images(model_folder: str, backend: BackendName = "pil") -> ImageCheckpoint | None:
    """A checkpoint's images, if a family serves them from the files alone."""
    try:
        checkpoint = ImageCheckpoint.load(model_folder, KNOWN, backend)
    except ValueError:
        return None
    family = FAST.get(checkpoint.kind)
    return checkpoint if family is not None and family.serves(checkpoint) else None


def video_processor(
    model_folder: str,
    *,
    fast: bool = True,
    encoding: Encoding = "float32",
    generic: bool = True,
    verdict: Verdict | None = None,
) -> QwenVideoProcessor:
    """Return the video processor of a checkpoint. `fast=False` resizes with torch itself; the bits are the same.

    Raises ValueError if the checkpoint's videos are of an unsupported family or configuration, or if torch would have
    to resize and `generic` forbids it.
    """
    checkpoint = VideoCheckpoint.load(model_folder, KNOWN)
    if not QwenVideoProcessor.serves(checkpoint):
        raise ValueError("this configuration of the video processor is not built")
    if fast:
        verdict = verdict or _verdict(model_folder, "video")
        if verdict != "differs":
            return QwenVideoProcessor(replace(checkpoint, compared=verdict == "same"), encoding, Resize.bands)
    if not generic:
        raise ValueError(f"resized frames differ from torch's own here. {GENERIC}")
    from mmplane.features.reference.torch_frames import torch_bands

    return QwenVideoProcessor(checkpoint, encoding, torch_bands)


def is_frames(model_folder: str) -> bool:
    """Whether the checkpoint's videos are those of LLaVA-OneVision, InternVL or SmolVLM."""
    try:
        FrameCheckpoint.load(model_folder, KNOWN)
    except ValueError:
        return False
    return True


def frame_processor(
    model_folder: str, *, encoding: Encoding = "float32", verdict: Verdict | None = None
) -> FrameVideoProcessor:
    """Return their video processor. Raises ValueError if it does not serve the checkpoint here."""
    checkpoint = FrameCheckpoint.load(model_folder, KNOWN)
    if not FrameVideoProcessor.serves(checkpoint):
        raise ValueError("this configuration of the video processor is not built")
    verdict = verdict or _verdict(model_folder, "video")
    if verdict == "differs":
        raise ValueError("resized frames differ from torch's own here")
    return FrameVideoProcessor(replace(checkpoint, compared=verdict == "same"), encoding)


def audio_processor(
    model_folder: str,
    *,
    fast: bool = True,
    encoding: Encoding = "float32",
    generic: bool = True,
    verdict: Verdict | None = None,
) -> LogMelProcessor:
    """Return the audio processor of a checkpoint. `fast=False` requires transformers' own NumPy path.

    Raises ValueError if the checkpoint's sounds are of an unsupported family or configuration, or if only that path
    could serve and `generic` forbids it.
    """
    checkpoint = AudioCheckpoint.load(model_folder, KNOWN)
    processor = LogMelProcessor(checkpoint, encoding)
    if fast:
        verdict = verdict or _verdict(model_folder, "audio")
        if verdict != "differs":
            return processor if verdict == "same" else LogMelProcessor(replace(checkpoint, compared=False), encoding)
    if not generic:
        raise ValueError(f"features of sounds differ from transformers' own here. {GENERIC}")
    from mmplane.features.reference.sounds import numpy_path

    return LogMelProcessor(checkpoint, encoding, reference=numpy_path)


def generic_clips(model_folder: str, encoding: Encoding) -> VideoProcessor:
    """Return transformers' own video processor. Raises ValueError with the reason if it cannot work here."""
    with _transformers():
        from mmplane.features.reference.clip_calls import HuggingFaceVideoProcessor
    return HuggingFaceVideoProcessor.load(model_folder, encoding)


def generic_sounds(model_folder: str, encoding: Encoding) -> AudioProcessor:
    """Return transformers' own feature extractor. Raises ValueError with the reason if it cannot work here."""
    with _transformers():
        from mmplane.features.reference.sound_calls import HuggingFaceAudioProcessor
    return HuggingFaceAudioProcessor.load(model_folder, encoding)


def names_video_processor(model_folder: str) -> bool:
    """Whether the checkpoint has a video processor, though its configuration may name no token for clips."""
    return bool(CheckpointFiles(model_folder).part("video_processor", "video_preprocessor_config.json"))


@contextmanager
def _transformers() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ValueError(f"transformers, which has to serve this checkpoint, cannot be loaded: {error}") from error


def _verdict(model_folder: str, modality: Modality) -> Verdict:
    return verdicts_of(model_folder, [modality])[modality]
