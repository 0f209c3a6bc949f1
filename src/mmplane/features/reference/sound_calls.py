"""Sounds of a family without a fast path: the checkpoint's own Processor and feature extractor."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mmplane.core.errors import bad_media
from mmplane.core.records import Layout
from mmplane.features.arithmetic.encodings import Encoding, dtype_of
from mmplane.features.contract.arrays import Arrays
from mmplane.features.contract.audio import AUDIO_FEATURES, AudioProcessor, Samples
from mmplane.features.contract.processor import LAYOUTS_MAX
from mmplane.features.reference.whole import WholeCheckpoint, fill, measured

SECONDS_MAX = 1800
"""How long a sound may be. Nobody knows how much of it an unknown model hears, so nothing is cut off."""


class HuggingFaceAudioProcessor(AudioProcessor):
    """Calls the checkpoint's own Processor; the only additional copy is the one into the slot."""

    def __init__(self, checkpoint: WholeCheckpoint, encoding: Encoding = "float32") -> None:
        if dtype_of(encoding) == "uint8":
            raise ValueError("uint8 encoding is not available for sounds")
        self._checkpoint, self._encoding = checkpoint, encoding
        self._measured = lru_cache(maxsize=LAYOUTS_MAX)(self._measure)

    @classmethod
    def load(cls, model_folder: str, encoding: Encoding = "float32") -> HuggingFaceAudioProcessor:
        """Load from a checkpoint folder, and try it. Raises ValueError with the reason if it cannot work here."""
        found = cls(WholeCheckpoint.load(model_folder, "audio"), encoding)
        found._checkpoint.tried(lambda: found.layout(found.sampling_rate_hz))
        return found

    @property
    def fingerprint(self) -> bytes:
        """The checkpoint's digest, with the encoding."""
        return self._checkpoint.fingerprint(self._encoding)

    @property
    def placeholder_id(self) -> int:
        """The checkpoint's own."""
        return self._checkpoint.placeholder_id

    @property
    def sampling_rate_hz(self) -> int:
        """The feature extractor's own."""
        return int(self._checkpoint.part.sampling_rate)

    @property
    def samples_max(self) -> int:
        """One more than may be: such a sound is refused."""
        return SECONDS_MAX * self.sampling_rate_hz + 1

    def layout(self, samples: int) -> Layout:
        """Measured once for each length. Raises RequestError (400)."""
        return self._measured(samples)

    def write(self, samples: Samples, out: Arrays) -> int:
        """Call the Processor and copy what it returns into `out`."""
        arrays, _ = self._checkpoint.call(samples, AUDIO_FEATURES, sampling_rate=self.sampling_rate_hz)
        return fill(arrays, out, self._encoding)

    def warm(self) -> None:
        """Nothing is left: it was called when it was loaded."""

    def _measure(self, samples: int) -> Layout:
        if samples >= self.samples_max:
            raise bad_media(f"the sound is too long: without a fast path it may take {SECONDS_MAX} seconds")
        silence = np.zeros(samples, np.float32)
        options = {"sampling_rate": self.sampling_rate_hz}
        return measured(
            "a sound of this length", lambda: self._checkpoint.call(silence, AUDIO_FEATURES, **options), self._encoding
        )
