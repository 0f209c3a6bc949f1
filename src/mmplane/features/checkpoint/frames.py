"""The video half of a LLaVA-OneVision, InternVL or SmolVLM checkpoint: each frame of a clip is an image by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from math import ceil, isqrt
from typing import Any

from mmplane.core.records import Clip
from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.arithmetic.kernels import BICUBIC, LANCZOS
from mmplane.features.arithmetic.sizes import Size, longest_edge
from mmplane.features.checkpoint.arguments import check_names
from mmplane.features.checkpoint.defaults import CLIP_MEAN, CLIP_STD, HALVES, Options
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.checkpoint.known import Known
from mmplane.features.checkpoint.prompts import Settings
from mmplane.features.checkpoint.video import clip_settings
from mmplane.features.checkpoint.video_rules import (
    FPS_UNKNOWN,
    Sample,
    internvl_sample,
    onevision_sample,
    smolvlm_sample,
)
from mmplane.features.checkpoint.vocabulary import Pieces, Runs, Vocabulary
from mmplane.features.checkpoint.words import in_words
from mmplane.features.contract.image import FEATURES
from mmplane.features.contract.video import VIDEO_FEATURES

_OPTIONS: Options = {
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "do_sample_frames": False,
    "num_frames": None,
    "fps": None,
}
_STRETCHED: Options = {
    **_OPTIONS,
    "size": {"height": 384, "width": 384},
    "resample": BICUBIC,
    "do_center_crop": None,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
}
_SMOLVLM: Options = {
    **_OPTIONS,
    "size": {"longest_edge": 4 * 364},
    "max_image_size": {"longest_edge": 364},
    "resample": LANCZOS,
    "image_mean": HALVES,
    "image_std": HALVES,
    "do_pad": True,
}
SIDE_MAX = 4096
"""SmolVLM first resizes no frame to a longer side (`MAX_IMAGE_SIZE`)."""


def _stretched(options: Options, height: int, width: int) -> list[Size]:  # noqa: ARG001 - the same for every frame
    return [(int(options["size"]["height"]), int(options["size"]["width"]))]


def _squared(options: Options, height: int, width: int) -> list[Size]:
    """By the longer side, then to a square."""
    side = options["max_image_size"]["longest_edge"]
    return [longest_edge(height, width, min(options["size"]["longest_edge"], SIDE_MAX), SIDE_MAX), (side, side)]


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


def _smolvlm_pieces(vocabulary: Vocabulary, settings: Settings, clip: Clip) -> Pieces:
    """An introduction, then each frame is an image after its time."""
    token = vocabulary.named("image_token", "<image>")
    around = vocabulary.named("fake_image_token", "<fake_token_around_image>")
    whole = vocabulary.named("global_image_token", "<global-img>")
    times_s = [index / (clip.fps or FPS_UNKNOWN) for index in clip.indices]
    length = timedelta(seconds=int(times_s[-1] if clip.fps is None else clip.frames_total / clip.fps))
    frames = in_words(len(clip.indices))
    text = f"You are provided the following series of {frames} frames from a {length} [H:MM:SS] video.\n"
    for at_s in times_s:
        yield f"{text}\nFrame from {int(at_s // 60):02d}:{int(at_s % 60):02d}:", 1
        yield from ((around, 1), (whole, 1), (token, settings.get("image_seq_len", 169)), (around, 1))
        text = ""
    yield "\n\n", 1


@dataclass(frozen=True)
class FrameKind:
    """What is known of a class of video processors.

    `sizes` are those to which a frame is resized, one after the other, from (options, height, width). `features` is
    their name, `leading` the sides before (frames, 3, height, width). `pieces` replace a clip in a prompt. `needs` is a
    setting of the Processor without a default here. `takes_both`: frames are chosen by `num_frames` and `fps` together.
    """

    processor: str
    options: Options
    sample: Sample
    sizes: Callable[[Options, int, int], list[Size]]
    features: str
    leading: tuple[int, ...]
    pieces: Callable[[Vocabulary, Settings, Clip], Pieces]
    needs: str = ""
    takes_both: bool = False


KINDS: Mapping[str, FrameKind] = {
    "LlavaOnevisionVideoProcessor": FrameKind(
        "LlavaOnevisionProcessor",
        _STRETCHED,
        onevision_sample,
        _stretched,
        VIDEO_FEATURES,
        (1,),
        _onevision_pieces,
        needs="num_image_tokens",
    ),
    "InternVLVideoProcessor": FrameKind(
        "InternVLProcessor",
        {**_STRETCHED, "initial_shift": True},
        internvl_sample,
        _stretched,
        FEATURES,
        (),
        _internvl_pieces,
    ),
    "SmolVLMVideoProcessor": FrameKind(
        "SmolVLMProcessor", _SMOLVLM, smolvlm_sample, _squared, FEATURES, (1,), _smolvlm_pieces, takes_both=True
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
            raise ValueError("this checkpoint's videos are not of LLaVA-OneVision, InternVL or SmolVLM")
        row = KINDS[kind]
        if row.needs and not own.get(row.needs):
            raise ValueError(f"this checkpoint's processor_config.json does not say {row.needs}")
        if row.takes_both and (sampling := settings.get("video_sampling")):  # in SmolVLM's files
            settings = {"size": sampling["video_size"], **settings}
            settings |= {"num_frames": sampling["max_frames"], "fps": sampling["fps"]}
        options = {name: settings.get(name, default) for name, default in row.options.items()}
        return cls(files, Vocabulary(files), kind, options)

    def adjusted(self, arguments: Mapping[str, Any]) -> FrameCheckpoint:
        """The same with arguments of one call. Raises ValueError for those that the class does not support."""
        check_names(self.kind, arguments, set(self.options) - {"resample", "fps", "initial_shift"})
        alone = {"fps": None} if "num_frames" in arguments and not KINDS[self.kind].takes_both else {}
        return replace(self, options={**self.options, **arguments, **alone})

    def fingerprint(self, encoding: Encoding) -> bytes:
        """Digest of the files, versions and encoding."""
        return self.files.fingerprint("video", encoding, compared=self.compared)

    @cached_property
    def placeholder_id(self) -> int | None:
        """The id of the token that stands for one clip in a prompt; None if it is not one token."""
        ids = self.vocabulary.ids(_placeholder(self.vocabulary))
        return ids[0] if len(ids) == 1 else None

    def expansion(self, clip: Clip) -> Runs:
        """The replacement of a clip's placeholder."""
        settings = self.files.json("processor_config.json")
        return self.vocabulary.runs(KINDS[self.kind].pieces(self.vocabulary, settings, clip))


def _placeholder(vocabulary: Vocabulary) -> str:
    return vocabulary.named("video_token", "<video>")
