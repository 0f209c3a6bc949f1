"""The audio half of a checkpoint, read from its files: the feature extractor's options and the rule of its prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.checkpoint.defaults import SOUNDS, kinds_of
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.checkpoint.vocabulary import Vocabulary

EXTRACTOR = "WhisperFeatureExtractor"


@dataclass(frozen=True)
class AudioRule:
    """What a Processor class of transformers adds to the features: tokens for a number of frames, and a mask's name."""

    tokens: Callable[[int], int]
    mask: str


def _qwen_tokens(frames: int) -> int:
    """Two strided layers (`Qwen2AudioProcessor._process_audio`)."""
    return ((frames - 1) // 2 + 1 - 2) // 2 + 1


RULES: Mapping[str, AudioRule] = {
    "Qwen2AudioProcessor": AudioRule(_qwen_tokens, "feature_attention_mask"),
    "Qwen2_5OmniProcessor": AudioRule(_qwen_tokens, "feature_attention_mask"),
}
"""By the name of the class. A Whisper model takes the features alone and has no rule."""


@dataclass(frozen=True)
class AudioCheckpoint:
    """What a checkpoint says of sounds; `options` are all of `SOUNDS`. No rule: no prompt has sounds in it."""

    files: CheckpointFiles
    options: Mapping[str, Any]
    rule: AudioRule | None
    placeholder_id: int | None
    compared: bool = True

    @classmethod
    def load(cls, model_folder: str) -> AudioCheckpoint:
        """From a checkpoint folder. Raises ValueError when the sounds are not of the log-mel family."""
        files = CheckpointFiles(model_folder)
        given = files.part("feature_extractor", "preprocessor_config.json")
        if given.get("feature_extractor_type", EXTRACTOR) != EXTRACTOR:
            raise ValueError("this checkpoint's sounds are not of Whisper's log-mel type, the only one that is built")
        named = files.json("processor_config.json").get("processor_class") or given.get("processor_class")
        name = str(named or kinds_of(files.model_type).processor)
        if name != "WhisperProcessor" and name not in RULES:
            raise ValueError(f"the prompt rules for sounds of {name} are not built")
        options = {option: given.get(option, default) for option, default in SOUNDS.items()}
        if name not in RULES:
            return cls(files, options, None, None)
        vocabulary = Vocabulary(files)
        placeholder_id = vocabulary.one(vocabulary.named("audio_token", "<|AUDIO|>"))
        return cls(files, options, RULES[name], placeholder_id)

    def fingerprint(self, encoding: Encoding) -> bytes:
        """Of the files, versions and encoding."""
        return self.files.fingerprint("audio", encoding, compared=self.compared)

    @property
    def samples_max(self) -> int:
        """How many samples the model hears."""
        return int(self.options["chunk_length"] * self.options["sampling_rate"])
