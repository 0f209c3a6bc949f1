"""The audio half of a checkpoint, read from its files: the feature extractor's options and the rule of its prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mmplane.features.arithmetic.encodings import Encoding
from mmplane.features.checkpoint.defaults import SOUNDS
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.checkpoint.known import Known
from mmplane.features.checkpoint.vocabulary import Vocabulary

EXTRACTOR = "WhisperFeatureExtractor"


@dataclass(frozen=True)
class AudioRule:
    """What one of transformers' Processor classes adds to the features: tokens per number of frames, and a mask's
    name.

    Without a mask all frames count. A long sound becomes up to `chunks_max` chunks, each with its own row of features.
    `placeholder_id` is set for a class that does not ask its tokenizer.
    """

    tokens: Callable[[int], int]
    mask: str = ""
    chunks_max: int = 1
    placeholder_id: int | None = None


def _qwen_tokens(frames: int) -> int:
    """Two strided layers (`Qwen2AudioProcessor._process_audio`)."""
    return ((frames - 1) // 2 + 1 - 2) // 2 + 1


def _voxtral_tokens(frames: int) -> int:
    """A strided layer, and four positions side by side (`VoxtralMultiModalProjector`)."""
    return frames // 8


RULES: Mapping[str, AudioRule] = {
    "Qwen2AudioProcessor": AudioRule(_qwen_tokens, "feature_attention_mask"),
    "Qwen2_5OmniProcessor": AudioRule(_qwen_tokens, "feature_attention_mask"),
    "VoxtralProcessor": AudioRule(_voxtral_tokens, chunks_max=80, placeholder_id=24),
}
"""By the name of the class. A Whisper model only takes the features and has no rule."""


@dataclass(frozen=True)
class AudioCheckpoint:
    """A checkpoint's settings for sounds; `options` are all of `SOUNDS`. Without a rule, no prompt contains sounds."""

    files: CheckpointFiles
    options: Mapping[str, Any]
    rule: AudioRule | None
    placeholder_id: int | None
    compared: bool = True

    @classmethod
    def load(cls, model_folder: str, known: Known) -> AudioCheckpoint:
        """Read a checkpoint folder. Raises ValueError if the sounds are not of the log-mel family."""
        files = CheckpointFiles(model_folder)
        given = files.part("feature_extractor", "preprocessor_config.json")
        if given.get("feature_extractor_type", EXTRACTOR) != EXTRACTOR:
            raise ValueError("this checkpoint's sounds are not of Whisper's log-mel type, the only one that is built")
        named = files.json("processor_config.json").get("processor_class") or given.get("processor_class")
        name = str(named or known.kinds_of(files.model_type).processor)
        if name != "WhisperProcessor" and name not in RULES:
            raise ValueError(f"the prompt rules for sounds of {name} are not built")
        options = {option: given.get(option, default) for option, default in SOUNDS.items()}
        if name not in RULES:
            return cls(files, options, None, None)
        rule, vocabulary = RULES[name], Vocabulary(files)
        if (placeholder_id := rule.placeholder_id) is None:
            placeholder_id = vocabulary.one(vocabulary.named("audio_token", "<|AUDIO|>"))
        return cls(files, options, rule, placeholder_id)

    def fingerprint(self, encoding: Encoding) -> bytes:
        """Digest of the files, versions and encoding."""
        return self.files.fingerprint("audio", encoding, compared=self.compared)

    @property
    def chunk_samples(self) -> int:
        """Number of samples in one row of features."""
        return int(self.options["chunk_length"] * self.options["sampling_rate"])

    @property
    def samples_max(self) -> int:
        """Number of samples that the model hears."""
        return self.chunk_samples * (1 if self.rule is None else self.rule.chunks_max)

    def chunks(self, samples: int) -> int:
        """Number of rows of features for a sound of this many samples."""
        return -(-min(samples, self.samples_max) // self.chunk_samples)
