"""The generic path: any image processor of transformers, with either backend, by the checkpoint's own configuration.

Layouts are measured: a blank image of each size goes through the processor once, and the shapes of its outputs are
cached. That costs milliseconds for each new size, so `layout` belongs into a worker. It assumes what is true for every
processor in transformers: shapes depend on sizes, never on pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Self

import numpy as np
from PIL import Image

from mmplane.core.errors import RequestError, bad_media
from mmplane.core.records import BackendName, Layout
from mmplane.features.arithmetic.encodings import Array, Encoding, dtype_of
from mmplane.features.checkpoint.image import TRIAL_SIDE
from mmplane.features.contract.arrays import Arrays, pack
from mmplane.features.contract.image import FEATURES, ImageProcessor, Pixels
from mmplane.features.contract.processor import LAYOUTS_MAX
from mmplane.features.reference.checkpoint import ReferenceCheckpoint, as_array
from mmplane.features.reference.whole import fill


class HuggingFaceImageProcessor(ImageProcessor):
    """Runs the checkpoint's own image processor; the only additional copy is the one into the slot."""

    def __init__(self, checkpoint: ReferenceCheckpoint, encoding: Encoding = "float32") -> None:
        if dtype_of(encoding) == "uint8":
            raise ValueError("uint8 encoding needs a fast image processor, which this checkpoint does not have")
        self._checkpoint = checkpoint
        self._encoding = encoding
        self._measured = lru_cache(maxsize=LAYOUTS_MAX)(self._measure)

    @classmethod
    def load(cls, model_folder: str, backend: BackendName = "pil") -> HuggingFaceImageProcessor:
        """Load from a checkpoint folder. Raises ValueError if transformers has no such image processor for it here."""
        return cls(ReferenceCheckpoint.load(model_folder, backend))

    def adjusted(self, arguments: Mapping[str, Any]) -> Self:
        """The same with arguments of one call, which transformers checks. Raises ValueError."""
        given = {**self._checkpoint.images_kwargs, **arguments}
        adjusted = type(self)(replace(self._checkpoint, images_kwargs=given), self._encoding)
        try:
            adjusted.layout(TRIAL_SIDE, TRIAL_SIDE)
        except RequestError:
            raise ValueError(f"transformers refuses these arguments: {', '.join(arguments)}") from None
        return adjusted

    @property
    def fingerprint(self) -> bytes:
        """The checkpoint's digest, with the encoding."""
        return self._checkpoint.fingerprint(self._encoding)

    @property
    def placeholder_id(self) -> int:
        """The checkpoint's own."""
        return self._checkpoint.placeholder_id

    def layout(self, width: int, height: int) -> Layout:
        """Measured once for each size, in milliseconds. Raises RequestError (400)."""
        return self._measured(width, height)

    def write(self, pixels: Pixels, out: Arrays) -> int:
        """Run the processor and copy its output into `out`."""
        return fill(self._model_inputs(self._checkpoint.outputs(Image.fromarray(pixels))), out, self._encoding)

    def warm(self) -> None:
        """Run the processor once, so that it imports and builds what it needs."""
        self._measured(TRIAL_SIDE, TRIAL_SIDE)

    def _measure(self, width: int, height: int) -> Layout:
        try:
            outputs, expansion = self._checkpoint.replacement(Image.new("RGB", (width, height)))
        except Exception:  # noqa: BLE001 - processors raise many types, and of a blank image only the size can be wrong
            raise bad_media("the model cannot take an image of this size") from None
        tensors = [(name, self._named(array), array.shape) for name, array in self._model_inputs(outputs).items()]
        return pack(tensors, expansion)

    def _named(self, array: Array) -> str:
        return self._encoding if array.dtype == np.float32 else array.dtype.name

    def _model_inputs(self, outputs: Mapping[str, Any]) -> dict[str, Array]:
        """The outputs that the model takes, features first."""
        names = self._checkpoint.input_names
        arrays = {name: as_array(value) for name, value in outputs.items() if name in names}
        first = FEATURES if FEATURES in arrays else max(arrays, key=lambda name: arrays[name].nbytes)
        return {first: arrays.pop(first), **arrays}
