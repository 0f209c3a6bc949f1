"""The video half of a Qwen-VL or GLM-V checkpoint: its options, and the tokens that replace a clip in a prompt.

transformers' video processors can only be imported with torchvision. They consist of a few options and formulas, which
are read and implemented here. The tests compare them with the classes themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from mmplane.core.keys import digest_parts
from mmplane.core.records import Clip
from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.checkpoint.arguments import LIMITS, check_names
from mmplane.features.checkpoint.defaults import CLIPS
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.checkpoint.known import Kinds, Known
from mmplane.features.checkpoint.video_rules import FPS_UNKNOWN
from mmplane.features.checkpoint.vocabulary import Pieces, Runs, Vocabulary
from mmplane.features.contract.video import LIBRARY_RULES, ClipRules

TELLS_SECONDS = "Qwen2_5_VLProcessor"
"""The Processor class whose model takes `second_per_grid_ts`."""

Moment = Callable[[Vocabulary, tuple[float, float], int], Pieces]
"""The tokens of one moment, from (vocabulary, seconds of its first and its last frame, tokens)."""


@dataclass(frozen=True)
class ClipPrompt:
    """How a Processor class replaces a clip: by a number of placeholders, or by a text for each moment.

    `token` is the placeholder if the tokenizer names none; `frames` is the frames of a moment, for a class with a
    fixed number.
    """

    token: str
    moment: Moment | None = None
    frames: int = 0


def _qwen3_moment(vocabulary: Vocabulary, times_s: tuple[float, float], tokens: int) -> Pieces:
    """Halfway between its frames, in tenths of a second."""
    start = vocabulary.named("vision_start_token", "<|vision_start|>")
    end = vocabulary.named("vision_end_token", "<|vision_end|>")
    token = vocabulary.named("video_token", "<|video_pad|>")
    return [(f"<{sum(times_s) / 2:.1f} seconds>", 1), (start, 1), (token, tokens), (end, 1)]


def _glm_moment(told: Callable[[float], str]) -> Moment:
    """Like an image, followed by its first frame's time."""

    def moment(vocabulary: Vocabulary, times_s: tuple[float, float], tokens: int) -> Pieces:
        token = vocabulary.named("image_token", "<|image|>")
        return [("<|begin_of_image|>", 1), (token, tokens), ("<|end_of_image|>", 1), (told(times_s[0]), 1)]

    return moment


PROMPTS: Mapping[str, ClipPrompt] = {
    "Qwen2VLProcessor": ClipPrompt("<|video_pad|>"),
    TELLS_SECONDS: ClipPrompt("<|video_pad|>"),
    "Qwen3VLProcessor": ClipPrompt("<|video_pad|>", _qwen3_moment),
    "Glm4vProcessor": ClipPrompt("<|video|>", _glm_moment(lambda seconds: f"{int(seconds)}"), frames=2),
    "Glm46VProcessor": ClipPrompt("<|video|>", _glm_moment(lambda seconds: f"{seconds:.1f} seconds"), frames=2),
}
"""By the name of the class."""


@dataclass(frozen=True)
class VideoCheckpoint:
    """A checkpoint's settings for clips: `kind` and `processor` are transformers' classes, `options` as in `CLIPS`."""

    files: CheckpointFiles
    vocabulary: Vocabulary
    kind: str
    processor: str
    options: Mapping[str, Any]
    compared: bool = True
    rules: ClipRules = LIBRARY_RULES

    @classmethod
    def load(cls, model_folder: str, known: Known) -> VideoCheckpoint:
        """Read a checkpoint folder. Raises ValueError if its videos are of another family."""
        files = CheckpointFiles(model_folder)
        settings, images = clip_settings(files), files.part("image_processor", "preprocessor_config.json")
        named = files.json("processor_config.json").get("processor_class") or images.get("processor_class")
        kinds = known.kinds_of(files.model_type)
        processor = named or kinds.processor
        kind = str(settings.get("video_processor_type") or _kind_of_model(kinds, settings))
        if kind not in CLIPS or processor not in PROMPTS:
            raise ValueError("this checkpoint's videos are not of the families of Qwen-VL or GLM-V, which are built")
        options: dict[str, Any] = {name: settings.get(name, default) for name, default in CLIPS[kind].items()}
        if options["temporal_patch_size"] != (PROMPTS[processor].frames or options["temporal_patch_size"]):
            raise ValueError("this configuration of the video processor is not built")
        size = {**options["size"]}
        if kind == "Qwen2VLVideoProcessor":  # older configurations use these names for the limits
            size["shortest_edge"] = settings.get("min_pixels") or size["shortest_edge"]
            size["longest_edge"] = settings.get("max_pixels") or size["longest_edge"]
        return cls(files, Vocabulary(files), kind, processor, {**options, "size": size})

    def adjusted(self, arguments: Mapping[str, Any]) -> VideoCheckpoint:
        """The same with arguments of one call. Raises ValueError for those that the class does not support.

        `num_frames` replaces the checkpoint's `fps`, because transformers refuses both together.
        """
        older = self.kind == "Qwen2VLVideoProcessor"
        limits = LIMITS if older else {}
        taken = {*CLIPS[self.kind], *limits} - (set() if older else {"min_frames", "max_frames"})
        check_names(self.kind, arguments, taken)
        options = {**self.options, **{name: value for name, value in arguments.items() if name not in limits}}
        edges = {edge: arguments[name] for name, edge in limits.items() if name in arguments}
        fps = None if "num_frames" in arguments else options["fps"]
        return replace(self, options={**options, "size": {**options["size"], **edges}, "fps": fps})

    def fingerprint(self, encoding: Encoding) -> bytes:
        """Digest of the files, versions, encoding and rules."""
        fingerprint = self.files.fingerprint("video", encoding, compared=self.compared)
        if not self.rules.true_times:
            return fingerprint
        return digest_parts([fingerprint, f"true times, {self.rules.pixels_max} pixels".encode()])

    @cached_property
    def placeholder_id(self) -> int:
        """The id of the token that stands for one clip in a prompt."""
        return self.vocabulary.one(self._token)

    @property
    def tells_seconds(self) -> bool:
        """Whether the model takes `second_per_grid_ts` (Qwen2.5-VL)."""
        return self.processor == TELLS_SECONDS

    def seconds_per_grid(self, clip: Clip) -> float:
        """Seconds of the clip per step of its grid."""
        sampled_fps = FPS_UNKNOWN if clip.fps is None else len(clip.indices) / clip.frames_total * clip.fps
        return float(self.options["temporal_patch_size"] / sampled_fps)

    def expansion(self, clip: Clip, moments: int, tokens: int) -> Runs:
        """The replacement of a clip's placeholder, for this many moments with this many tokens each."""
        if (moment := PROMPTS[self.processor].moment) is None:
            return self.vocabulary.runs([(self._token, moments * tokens)])
        told = (moment(self.vocabulary, times_s, tokens) for times_s in self._times(clip))
        return self.vocabulary.runs(piece for pieces in told for piece in pieces)

    def _times(self, clip: Clip) -> Iterator[tuple[float, float]]:
        """Times of each moment's first and last frame, in seconds; if frames are missing, the last one is repeated."""
        length, fps = self.options["temporal_patch_size"], clip.fps or FPS_UNKNOWN
        if self.rules.true_times and clip.seconds:
            shown = [at_s - clip.begins_s for at_s in clip.seconds]
        else:
            shown = [index / fps for index in clip.indices]
        for start in range(0, len(shown), length):
            yield shown[start], shown[min(start + length, len(shown)) - 1]

    @property
    def _token(self) -> str:
        return self.vocabulary.named("video_token", PROMPTS[self.processor].token)


def clip_settings(files: CheckpointFiles) -> dict[str, Any]:
    """The video processor's configuration, from the file that transformers uses (`get_video_processor_dict`)."""
    own = files.part("video_processor", "video_preprocessor_config.json")
    return own or files.json("preprocessor_config.json")


def _kind_of_model(kinds: Kinds, settings: Mapping[str, Any]) -> str:
    """The class if no `video_processor_type` names it (`AutoVideoProcessor`)."""
    guess = str(settings.get("image_processor_type")).replace("ImageProcessor", "VideoProcessor")
    return guess if guess in CLIPS else kinds.video
