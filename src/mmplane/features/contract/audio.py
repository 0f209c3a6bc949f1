"""The contract of an audio processor: turns samples into the arrays that the model takes."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import numpy.typing as npt

from mmplane.core.records import Layout
from mmplane.features.contract.arrays import Arrays
from mmplane.features.contract.processor import Processor

AUDIO_FEATURES = "input_features"
"""transformers' name of the array that holds a sound's features; it comes first in a layout."""

Samples = npt.NDArray[np.float32]
"""One decoded sound: (samples,), mono, -1 to 1, at `AudioProcessor.sampling_rate_hz`; may be read-only."""


class AudioProcessor(Processor):
    """A processor of sounds."""

    @property
    @abstractmethod
    def sampling_rate_hz(self) -> int:
        """Sampling rate that the decoder must deliver."""

    @property
    @abstractmethod
    def samples_max(self) -> int:
        """Number of samples that the model hears. Later samples change nothing, so a decoder may stop there."""

    @abstractmethod
    def layout(self, samples: int) -> Layout:
        """Return the layout of a sound of this many samples. Raises RequestError (400) if the model cannot take it."""

    @abstractmethod
    def write(self, samples: Samples, out: Arrays) -> int:
        """Fill `out` (one writable array per tensor of `layout`, by name, in the slot) from a decoded sound.

        Returns how many bytes were written, counted where they were written.
        """
