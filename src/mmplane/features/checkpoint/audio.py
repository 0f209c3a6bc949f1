"""The audio half of a checkpoint: its feature extractor, tokenizer and prompt rule."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import transformers
from transformers import AutoConfig, AutoFeatureExtractor, AutoTokenizer
from transformers.processing_utils import ProcessorMixin

from mmplane.core.keys import digest_parts
from mmplane.features.arithmetic.encodings import Encoding


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

_OF_MODEL = {"qwen2_audio": "Qwen2AudioProcessor", "qwen2_5_omni": "Qwen2_5OmniProcessor"}


@dataclass(frozen=True)
class AudioCheckpoint:
    """What transformers knows about sounds of one checkpoint. No rule: the model takes no prompt with sounds in it."""

    feature_extractor: Any
    tokenizer: Any
    rule: AudioRule | None
    rule_name: str

    @classmethod
    def load(cls, model_folder: str) -> AudioCheckpoint:
        """Load from a checkpoint folder. Raises ValueError when the sounds are not of the log-mel family."""
        extractor = AutoFeatureExtractor.from_pretrained(model_folder, trust_remote_code=False)
        if type(extractor).__name__ != "WhisperFeatureExtractor":
            raise ValueError("this checkpoint's sounds are not of Whisper's log-mel type, the only one that is built")
        settings, _ = ProcessorMixin.get_processor_dict(model_folder)
        name = settings.get("processor_class") or getattr(extractor, "_processor_class", None)
        if name is None:
            config = AutoConfig.from_pretrained(model_folder, trust_remote_code=False)
            name = _OF_MODEL.get(config.model_type, "WhisperProcessor")
        if name != "WhisperProcessor" and name not in RULES:
            raise ValueError(f"the prompt rules for sounds of {name} are not built")
        tokenizer = AutoTokenizer.from_pretrained(model_folder, trust_remote_code=False) if name in RULES else None
        return cls(extractor, tokenizer, RULES.get(name), name)

    def fingerprint(self, encoding: Encoding) -> bytes:
        """32 bytes over class, prompt rule, configuration, versions and encoding."""
        kinds = f"{type(self.feature_extractor).__name__} {self.rule_name} numpy"
        config = json.dumps(self.feature_extractor.to_dict(), sort_keys=True, default=str)
        versions = f"transformers {transformers.__version__} numpy {np.__version__}"
        return digest_parts([kinds.encode(), config.encode(), versions.encode(), encoding.encode()])

    @cached_property
    def placeholder_id(self) -> int | None:
        """The id of the token that stands for one sound in a prompt."""
        if self.tokenizer is None:
            return None
        token = getattr(self.tokenizer, "audio_token", "<|AUDIO|>")
        ids = self.tokenizer.encode(token, add_special_tokens=False)
        if len(ids) != 1:
            raise ValueError("the audio placeholder of this checkpoint is not one token")
        return int(ids[0])


def reference_of(checkpoint: AudioCheckpoint, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What transformers' NumPy path gives for one sound, (1, bands, columns) float32."""
    extractor = checkpoint.feature_extractor
    padded = np.zeros((1, extractor.n_samples), np.float32)
    heard = samples[: extractor.n_samples]
    padded[0, : len(heard)] = heard
    features: npt.NDArray[np.float32] = extractor._np_extract_fbank_features(padded, "cpu")
    return features
