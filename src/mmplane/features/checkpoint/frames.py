"""The video half of a LLaVA-OneVision or InternVL checkpoint: each frame of a clip is an image by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, isqrt
from typing import Any

from mmplane.core.records import Clip
from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.arithmetic.kernels import BICUBIC
from mmplane.features.checkpoint.arguments import check_names
from mmplane.features.checkpoint.defaults import CLIP_MEAN, CLIP_STD, Options
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.checkpoint.known import Known
from mmplane.features.checkpoint.prompts import Settings
from mmplane.features.checkpoint.video import clip_settings
from mmplane.features.checkpoint.video_rules import Sample, internvl_sample, onevision_sample
from mmplane.features.checkpoint.vocabulary import Pieces, Runs, Vocabulary
from mmplane.features.contract.image import FEATURES
from mmplane.features.contract.video import VIDEO_FEATURES

_OPTIONS: Options = {
    "do_resize": True,
    "size": {"height": 384, "width": 384},
    "resample": BICUBIC,
    "do_center_crop": None,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
    "do_sample_frames": False,
    "num_frames": None,
    "fps": None,
}


def _onevision_pieces(vocabulary: Vocabulary, settings: Settings, clip: Clip) -> Pieces:
    """Each frame's tokens are pooled by two, and one ends the clip."""
    side = ceil(isqrt(int(settings["num_image_tokens"])) / 2)
    return [(_placeholder(vocabulary), len(clip.indices) * side * side + 1)]


def _internvl_pieces(vocabulary: Vocabulary, settings: Settings, clip: Clip) -> Pieces:
    """Each frame is a numbered image."""
    start, token, end = (vocabulary.named(f"{name}_image_token") for name in ("start", "context", "end"))
    for number in range(1, len(clip.indices) + 1):
        yield ("\n" if number > 1 else "") + f"Frame{number}: ", 1
        yield from ((start, 1), (token, settings.get("image_seq_length", 256)), (end, 1))


@dataclass(frozen=True)
class FrameKind:
    """What is known of a class of video processors: its Processor class, the defaults of its options, the frames that
    it takes; the features' name, and their sides before (frames, 3, height, width); what replaces a clip in a prompt.
    """

    processor: str
    options: Options
    sample: Sample
    features: str
    leading: tuple[int, ...]
    pieces: Callable[[Vocabulary, Settings, Clip], Pieces]
    needs: str = ""
    """A setting of the Processor that has no default here."""


KINDS: Mapping[str, FrameKind] = {
    "LlavaOnevisionVideoProcessor": FrameKind(
        "LlavaOnevisionProcessor",
        _OPTIONS,
        onevision_sample,
        VIDEO_FEATURES,
        (1,),
        _onevision_pieces,
        needs="num_image_tokens",
    ),
    "InternVLVideoProcessor": FrameKind(
        "InternVLProcessor", {**_OPTIONS, "initial_shift": True}, internvl_sample, FEATURES, (), _internvl_pieces
    ),
}
"""By the name of the class."""


@dataclass(frozen=True)
class FrameCheckpoint:
    """A checkpoint's settings for clips: `kind` is transformers' class, `options` are as in `KINDS`."""

    files: CheckpointFiles
    vocabulary: Vocabulary
    kind: str
    options: Mapping[str, Any]
    compared: bool = True

    @classmethod
    def load(cls, model_folder: str, known: Known) -> FrameCheckpoint:
        """Read a checkpoint folder. Raises ValueError if its videos are of another family."""
        files = CheckpointFiles(model_folder)
        settings, kinds = clip_settings(files), known.kinds_of(files.model_type)
        own = files.json("processor_config.json")
        processor = own.get("processor_class") or kinds.processor
        kind = settings.get("video_processor_type") or kinds.video
        if kind not in KINDS or processor != KINDS[kind].processor:
            raise ValueError("this checkpoint's videos are not of LLaVA-OneVision or InternVL")
        defaults, needs = KINDS[kind].options, KINDS[kind].needs
        if needs and not own.get(needs):
            raise ValueError(f"this checkpoint's processor_config.json does not say {needs}")
        options = {name: settings.get(name, default) for name, default in defaults.items()}
        return cls(files, Vocabulary(files), kind, options)

    def adjusted(self, arguments: Mapping[str, Any]) -> FrameCheckpoint:
        """The same with arguments of one call. Raises ValueError for those that the class does not support."""
        check_names(self.kind, arguments, set(self.options) - {"resample", "fps", "initial_shift"})
        alone = {"fps": None} if "num_frames" in arguments else {}
        return replace(self, options={**self.options, **arguments, **alone})

    def fingerprint(self, encoding: Encoding) -> bytes:
        """Digest of the files, versions and encoding."""
        return self.files.fingerprint("video", encoding, compared=self.compared)

    @cached_property
    def placeholder_id(self) -> int:
        """The id of the token that stands for one clip in a prompt."""
        return self.vocabulary.one(_placeholder(self.vocabulary))

    def expansion(self, clip: Clip) -> Runs:
        """The replacement of a clip's placeholder."""
        settings = self.files.json("processor_config.json")
        return self.vocabulary.runs(KINDS[self.kind].pieces(self.vocabulary, settings, clip))


def _placeholder(vocabulary: Vocabulary) -> str:
    return vocabulary.named("video_token", "<video>")
