"""The contract of an audio processor: samples in, the arrays that the model takes out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from mmplane.core.records import Layout
from mmplane.features.processor import Arrays

AUDIO_FEATURES = "input_features"
"""transformers' name of the array that holds a sound's features; it comes first in a layout."""

Samples = npt.NDArray[np.float32]
"""One decoded sound: (samples,), mono, -1 to 1, at `AudioProcessor.sampling_rate_hz`; may be read-only."""


class AudioProcessor(ABC):
    """Turns one decoded sound into the arrays that the model takes.

    Pure, like `ImageProcessor`, and called like it: in a worker process, one item at a time, by one thread.
    """

    @property
    @abstractmethod
    def fingerprint(self) -> bytes:
        """32 bytes over everything that changes the output: class, configuration, library versions."""

    @property
    @abstractmethod
    def placeholder_id(self) -> int | None:
        """The token that stands for one sound in a tokenised prompt; None where sounds are not in the prompt."""

    @property
    @abstractmethod
    def sampling_rate_hz(self) -> int:
        """How many samples a second the decoder must deliver."""

    @abstractmethod
    def layout(self, samples: int) -> Layout:
        """The layout of a sound of so many samples. Raises RequestError (400) when the model cannot take it."""

    @abstractmethod
    def write(self, samples: Samples, out: Arrays) -> None:
        """Fill `out` (one writable array per tensor of `layout`, by name, in the slot) from a decoded sound."""

    @abstractmethod
    def warm(self) -> None:
        """Do all that happens once, so that no request's path does it."""
