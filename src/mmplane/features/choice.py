"""Chooses the processors of the configured model, by modality, and the encoding of features.

Every process makes this choice from the same configuration and comes to the same result: the front end (keys,
layouts), workers and other processes that materialise, and ranks (which undo the encoding).

The encoding is what the operator asked for, the model's dtype (`model`), or the cheapest one (`auto`). `auto` uses the
exact bytes if the model's family supports them, and otherwise the model's dtype. Bytes need a quarter of the arena, an
eighth for the Qwen family, so four to eight times as many pictures stay for later requests. Each rank expands them
once for each run of its encoder. On a CPU that takes 2.6 ms for a photograph of 1288x966, while the worker saves 2.1
ms because it writes less (`benchmarks/feature_encodings.py`). On a GPU it is one look-up, after a copy of an eighth of
the size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar, cast

from mmplane.config import Config
from mmplane.core.errors import bad_request, unsupported
from mmplane.core.keys import digest_parts
from mmplane.core.records import Clip, DecodeProfile, Modality
from mmplane.core.simulation import simulation_of
from mmplane.features.arithmetic.encodings import ENCODINGS, ByteForm, Encoding, dtype_of
from mmplane.features.checkpoint.files import DECODING, CheckpointFiles, versions_of
from mmplane.features.checkpoint.image import TRIAL_SIDE, ImageCheckpoint
from mmplane.features.contract.audio import AudioProcessor
from mmplane.features.contract.embeddings import EmbeddingForm
from mmplane.features.contract.image import ImageProcessor
from mmplane.features.contract.processor import Processor
from mmplane.features.contract.video import ClipRules, VideoProcessor
from mmplane.features.embeddings import embedding_form
from mmplane.features.facts import Facts
from mmplane.features.families.frame_video import FrameVideoProcessor
from mmplane.features.families.names import KNOWN
from mmplane.features.families.qwen_video import QwenVideoProcessor
from mmplane.features.families.table import TableImageProcessor
from mmplane.features.select import (
    GENERIC,
    audio_processor,
    fast_paths,
    frame_processor,
    generic_clips,
    generic_sounds,
    image_backend,
    image_processor,
    is_frames,
    names_video_processor,
    numbers_images,
    video_processor,
)
from mmplane.features.simulated import SimulatedProcessor
from mmplane.features.verdict import Verdict, Verdicts, verdicts_of

log = logging.getLogger("mmplane")
ProcessorT = TypeVar("ProcessorT", bound=Processor)

TRIAL_FRAMES = 8
"""Frames of a clip that every model accepts."""

CLIPS_OF_BYTES = (QwenVideoProcessor, FrameVideoProcessor)
"""The processors of clips that have an exact uint8 encoding."""

NAMES: dict[Modality, str] = {"image": "images", "video": "clips", "audio": "sounds"}


@dataclass(frozen=True)
class Processors:
    """The processor of each modality; None if the model takes no such items. `encoding` is that of images, and of clips
    with a fast path.

    `decode_profile` names how media is decoded before a processor sees it, because features depend on that as well.
    """

    encoding: Encoding
    image: ImageProcessor | None = None
    video: VideoProcessor | None = None
    audio: AudioProcessor | None = None
    embeddings: EmbeddingForm | None = None
    """The form of embeddings that clients may send instead of images; None unless the operator allows it."""
    decode_profile: DecodeProfile = "mmplane"
    _fingerprints: dict[Modality, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Each is computed once: the versions in it are read from disk, which takes milliseconds."""

    def of(self, modality: Modality) -> Processor:
        """The processor of a modality. Raises RequestError (422) if the model takes no such items."""
        processor: Processor | None = getattr(self, modality)
        return _needed(processor, modality)

    @property
    def for_images(self) -> ImageProcessor:
        """Like `of("image")`."""
        return _needed(self.image, "image")

    @property
    def for_clips(self) -> VideoProcessor:
        """Like `of("video")`."""
        return _needed(self.video, "video")

    @property
    def for_sounds(self) -> AudioProcessor:
        """Like `of("audio")`."""
        return _needed(self.audio, "audio")

    @property
    def for_embeddings(self) -> EmbeddingForm:
        """The required form of embeddings. Raises RequestError (400) unless the operator accepts them."""
        if self.embeddings is None:
            raise bad_request("unsupported_parameter", "this server does not accept embeddings", "messages")
        return self.embeddings

    @property
    def present(self) -> dict[Modality, Processor]:
        """The modalities that the model takes."""
        found: dict[Modality, Processor | None] = {"image": self.image, "video": self.video, "audio": self.audio}
        return {modality: processor for modality, processor in found.items() if processor is not None}

    @property
    def probed(self) -> Modality:
        """The modality of the item that tests the whole path at start and for `/ready`."""
        return "audio" if self.image is None else "image"

    @property
    def byte_forms(self) -> dict[Modality, ByteForm]:
        """The forms that undo the uint8 encoding, for each modality that has one."""
        has_form = (TableImageProcessor, *CLIPS_OF_BYTES)
        present = self.present.items()
        forms = {modality: each.byte_form for modality, each in present if isinstance(each, has_form)}
        if isinstance(self.image, TableImageProcessor) and not self.image.has_bytes:
            forms.pop("image")
        return forms

    @property
    def fingerprint(self) -> bytes:
        """32 bytes over all fingerprints: two processes with equal ones make the same features."""
        return digest_parts(part for each in self.present for part in (each.encode(), self.fingerprint_of(each)))

    def fingerprint_of(self, modality: Modality) -> bytes:
        """32 bytes over everything that affects one modality's features, for content keys. Raises like `of`."""
        if modality not in self._fingerprints:
            decoders = versions_of(DECODING[modality])
            parts = (self.decode_profile.encode(), decoders.encode(), self.of(modality).fingerprint)
            self._fingerprints[modality] = digest_parts(parts)
        return self._fingerprints[modality]

    def compact(self) -> Processors:
        """The same processors, with images and clips in the exact uint8 encoding if they have one."""
        image = self.image
        if isinstance(image, TableImageProcessor) and image.has_bytes:
            image = image.recoded("uint8")
        video = self.video.recoded("uint8") if isinstance(self.video, CLIPS_OF_BYTES) else self.video
        return replace(self, image=image, video=video)

    def warm(self) -> None:
        """Warm all processors."""
        for processor in self.present.values():
            processor.warm()


def choose(config: Config, verdicts: Verdicts | None = None) -> Processors:
    """Return the processors of the configured model. Raises ValueError if it has none, or not in the requested
    encoding.

    `verdicts` are those of `mmplane.features.verdict`; without them they are looked up or computed by comparing. A
    model that takes images must be served with them; unsupported kinds of clips and sounds are left out.
    """
    folder = config.model_folder
    tokens = Facts.of(folder, generic=config.generic).tokens
    if (simulation := simulation_of(config.decoder)) is not None:
        return Processors("float32", SimulatedProcessor(simulation, ImageCheckpoint.load(folder, KNOWN).placeholder_id))
    if not tokens:
        known = config.generic or CheckpointFiles(folder).model_type in KNOWN.models
        wrong = "this checkpoint does not take images, clips or sounds: its configuration names no token for them"
        raise ValueError(wrong if known else f"{wrong}, and no family here knows its type of model. {GENERIC}")
    if config.kind == "server" and numbers_images(folder):
        raise ValueError(
            "the prompts of this checkpoint number their images, which is not built: run it with a sidecar"
        )
    if verdicts is None:
        verdicts = verdicts_for(config)
    verdict = verdicts.get
    image, encoding = _images(config, verdict("image")) if "image" in tokens else (None, _encoding(config))
    video, audio, refused = None, None, list[str]()
    if "video" in tokens or (_any_family(config) and names_video_processor(folder)):
        video = _if_built("clips", refused, partial(_clips, config, encoding, verdict("video")))
    if "audio" in tokens:
        audio = _if_built("sounds", refused, partial(_sounds, config, encoding, verdict("audio")))
    embeddings = _embeddings(config, image)
    processors = Processors(encoding, image, video, audio, embeddings, config.decode_profile)
    if image is None and audio is None:
        wrong = "this checkpoint takes no images, and clips or sounds only of a kind that is not built"
        raise ValueError(": ".join([wrong, *refused]))
    return processors


def verdicts_for(config: Config) -> Verdicts:
    """Return what is known of the fast processors: from the configuration, or by comparing here if needed."""
    if config.verdicts:
        return config.verdicts
    folder = config.model_folder
    backend = image_backend(folder, config.backend)
    tokens = Facts.of(folder, generic=config.generic).tokens
    return verdicts_of(folder, fast_paths(folder, tokens, backend), backend)


def _images(config: Config, verdict: Verdict | None) -> tuple[ImageProcessor, Encoding]:
    encoding = _encoding(config)
    processor = partial(
        image_processor, config.model_folder, backend=config.backend, generic=config.generic, verdict=verdict
    )
    try:
        return processor(encoding=encoding), encoding
    except ValueError:
        if config.encoding != "auto" or encoding != "uint8":
            raise
    encoding = _model_dtype(config)  # whatever serves this model has no bytes to offer
    return processor(encoding=encoding), encoding


def _embeddings(config: Config, image: ImageProcessor | None) -> EmbeddingForm | None:
    """Clients of a sidecar are processes of its user: they may send what the model takes."""
    if config.kind == "sidecar":
        with suppress(ValueError):
            return embedding_form(config.model_folder, image, by_files=True)
        return None
    return embedding_form(config.model_folder, image) if config.accept_embeddings else None


def _any_family(config: Config) -> bool:
    """Whether transformers may make features of clips and sounds that no family here knows."""
    return config.generic and config.kind == "sidecar"


def _or_transformers(
    config: Config, load: Callable[[], ProcessorT], generic: Callable[[str, Encoding], ProcessorT], encoding: Encoding
) -> ProcessorT:
    """The fast path, or else transformers' own processor, which has no bytes to offer. Raises ValueError."""
    try:
        return load()
    except ValueError as error:
        if _any_family(config):
            return generic(config.model_folder, _floats(config, encoding))
        if config.kind == "sidecar" and GENERIC not in str(error):
            raise ValueError(f"{error}. {GENERIC}") from error
        raise


def _floats(config: Config, encoding: Encoding) -> Encoding:
    return _model_dtype(config) if dtype_of(encoding) == "uint8" else encoding


def _sounds(config: Config, encoding: Encoding, verdict: Verdict | None) -> AudioProcessor:
    def load() -> AudioProcessor:
        floats = _floats(config, encoding)
        return audio_processor(config.model_folder, encoding=floats, generic=config.generic, verdict=verdict)

    return _or_transformers(config, load, generic_sounds, encoding)


def _clips(config: Config, encoding: Encoding, verdict: Verdict | None) -> VideoProcessor:
    own = config.kind == "server"

    def load() -> VideoProcessor:
        if is_frames(config.model_folder):
            if own:
                raise ValueError("clips of this family are only built for a sidecar")
            return frame_processor(config.model_folder, encoding=encoding, verdict=verdict)
        return video_processor(config.model_folder, encoding=encoding, generic=config.generic, verdict=verdict)

    processor = _or_transformers(config, load, generic_clips, encoding)
    processor = processor.following(ClipRules(own, config.video_seconds_max, config.video_pixels_max))
    if own:
        trial = Clip(TRIAL_SIDE, TRIAL_SIDE, TRIAL_FRAMES, None, tuple(range(TRIAL_FRAMES)))
        if all(token != processor.placeholder_id for token, _ in processor.layout(trial).expansion):
            raise ValueError("their frames stand in the prompt as images, which is not built")
    return processor


def _if_built(items: str, refused: list[str], load: Callable[[], ProcessorT]) -> ProcessorT | None:
    try:
        return load()
    except ValueError as error:
        refused.append(str(error))
        log.warning("%s are not served: %s", items, error)
        return None


def _encoding(config: Config) -> Encoding:
    if config.encoding == "auto":
        return "uint8"
    return _model_dtype(config) if config.encoding == "model" else cast("Encoding", config.encoding)


def _model_dtype(config: Config) -> Encoding:
    """The dtype in which the model computes: its own on a GPU, float32 on a CPU."""
    if config.device != "cuda":
        return "float32"
    model = CheckpointFiles(config.model_folder).json("config.json")
    name = str(model.get("dtype") or model.get("torch_dtype")).removeprefix("torch.")
    return name if name in ENCODINGS else "float32"


def _needed(processor: ProcessorT | None, modality: Modality) -> ProcessorT:
    if processor is None:
        raise unsupported(f"this model takes no {NAMES[modality]}", "messages")
    return processor
