"""Log-mel features by transformers' own NumPy path."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import WhisperFeatureExtractor

from mmplane.features.checkpoint.audio import AudioCheckpoint
from mmplane.features.contract.audio import Samples


def numpy_path(checkpoint: AudioCheckpoint, samples: Samples) -> npt.NDArray[np.float32]:
    """What it gives for one sound, (1, bands, columns of all chunks) float32."""
    extractor = _extractor(tuple(checkpoint.options.items()))
    padded = np.zeros((1, checkpoint.chunks(len(samples)) * extractor.n_samples), np.float32)
    heard = samples[: padded.shape[1]]
    padded[0, : len(heard)] = heard
    features: npt.NDArray[np.float32] = extractor._np_extract_fbank_features(padded, "cpu")
    return features


@lru_cache(maxsize=8)
def _extractor(options: tuple[tuple[str, Any], ...]) -> Any:
    return WhisperFeatureExtractor(**dict(options))
