"""Common parts of the fast families: pixels are resized as by the backend, then looked up in a table of 256 values per
channel.

The table is filled by the processor's own arithmetic (rescale, then normalise, in its own precision), so a look-up
gives the same bits as the computation. With another encoding the table is cast, not the features.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np

from mmplane.core.errors import RequestError
from mmplane.core.records import Layout
from mmplane.features.arithmetic.encodings import Array, ByteForm, Encoding, cast, dtype_of, storage_dtype
from mmplane.features.arithmetic.table import Table
from mmplane.features.checkpoint.image import TRIAL_SIDE, ImageCheckpoint
from mmplane.features.checkpoint.prompts import Companions
from mmplane.features.checkpoint.vocabulary import Runs
from mmplane.features.contract.arrays import Arrays, pack, write_all
from mmplane.features.contract.image import FEATURES, ImageProcessor, Pixels
from mmplane.features.contract.processor import LAYOUTS_MAX


@dataclass(frozen=True)
class Outline:
    """The result for images of one size: shape of the features, tokens in the prompt, other inputs of the model."""

    shape: tuple[int, ...]
    expansion: Runs
    companions: Companions


class TableImageProcessor(ImageProcessor):
    """Base of the fast processors. `byte_form` describes how their uint8 encoding becomes features."""

    layout_is_cheap: ClassVar[bool] = True
    features_name: ClassVar[str] = FEATURES
    """transformers' name of the features."""
    has_bytes: ClassVar[bool] = True
    """Whether the features are look-ups of pixels and nothing else, so that they have a uint8 encoding."""

    def __init__(self, checkpoint: ImageCheckpoint, encoding: Encoding) -> None:
        if dtype_of(encoding) == "uint8" and not self.has_bytes:
            raise ValueError(f"{checkpoint.kind} computes with floats, so its features have no uint8 encoding")
        run, copies = self._geometry(checkpoint)
        self.byte_form = ByteForm(self._table_of(checkpoint), run, copies)
        self._checkpoint = checkpoint
        self._encoding = encoding
        self._outlines = lru_cache(maxsize=LAYOUTS_MAX)(self._outlined)
        self._layouts = lru_cache(maxsize=LAYOUTS_MAX)(self._laid_out)
        self._copies = 1 if encoding == "uint8" else copies
        self._dtype = dtype_of(encoding)
        self._table: Array | None = None
        if self._dtype != "uint8":
            self._table = _as_bits(cast(self.byte_form.table, encoding))

    def recoded(self, encoding: Encoding) -> TableImageProcessor:
        """The same processor in another encoding."""
        return type(self)(self._checkpoint, encoding)

    def adjusted(self, arguments: Mapping[str, Any]) -> Self:
        """The same with arguments of one call. Raises ValueError if they lead to an unsupported configuration."""
        checkpoint = self._checkpoint.adjusted(arguments)
        try:
            if self.serves(checkpoint):
                adjusted = type(self)(checkpoint, self._encoding)
                adjusted.layout(TRIAL_SIDE, TRIAL_SIDE)
                return adjusted
        except (ArithmeticError, LookupError, RequestError, TypeError):  # a size that lacks a required edge
            pass
        raise ValueError(f"{checkpoint.kind} is not built for these arguments: {', '.join(arguments)}")

    @property
    def fingerprint(self) -> bytes:
        """The checkpoint's digest, as for the generic path, because the bits are the same; with the encoding."""
        return self._checkpoint.fingerprint(self._encoding)

    @property
    def placeholder_id(self) -> int:
        """The checkpoint's own."""
        return self._checkpoint.placeholder_id

    def layout(self, width: int, height: int) -> Layout:
        """A closed formula: takes microseconds. Raises RequestError (400)."""
        return self._layouts(width, height)

    def _laid_out(self, width: int, height: int) -> Layout:
        outline = self._outlines(width, height)
        companions = [
            (name, self._dtype if value.dtype == np.bool_ else str(value.dtype), value.shape)
            for name, value in outline.companions.items()
        ]
        return pack([(self.features_name, self._dtype, outline.shape), *companions], outline.expansion)

    def write(self, pixels: Pixels, out: Arrays) -> int:
        """Resize and look up, band by band, directly into `out`."""
        outline = self._outlines(pixels.shape[1], pixels.shape[0])
        features = out[self.features_name]
        if features.shape != outline.shape or features.dtype != storage_dtype(self._dtype):
            raise RuntimeError("the slot does not have the shape that the layout said")
        companions = {name: self._stored(value) for name, value in outline.companions.items()}
        return self._fill(pixels, _as_bits(features)) + write_all(companions, out)

    def warm(self) -> None:
        """Run the code once; it was compiled when it was imported."""
        layout = self.layout(TRIAL_SIDE, TRIAL_SIDE)
        arrays = {t.name: np.empty(t.shape, storage_dtype(t.dtype)) for t in layout.tensors}
        self.write(np.zeros((TRIAL_SIDE, TRIAL_SIDE, 3), np.uint8), arrays)

    def _outlined(self, width: int, height: int) -> Outline:
        shape, companions = self._outline(width, height)
        taken = {name: value for name, value in companions.items() if name in self._checkpoint.input_names}
        return Outline(shape, self._checkpoint.expansion(shape, companions), taken)

    def _stored(self, companion: Array) -> Array:
        """As it is in the slot: a mask is cached as booleans, and stored as the encoding's ones and zeros."""
        return cast(companion.astype(np.float32), self._encoding) if companion.dtype == np.bool_ else companion

    @staticmethod
    def _table_of(checkpoint: ImageCheckpoint) -> Table:
        """(3, 256) float32: the value for each 8-bit value of each channel."""
        return checkpoint.backend.levels(checkpoint.options).table()

    @staticmethod
    @abstractmethod
    def serves(checkpoint: ImageCheckpoint) -> bool:
        """Whether the class supports this configuration."""

    @staticmethod
    @abstractmethod
    def _geometry(checkpoint: ImageCheckpoint) -> tuple[int, int]:
        """(run, copies) of `ByteForm`."""

    @abstractmethod
    def _outline(self, width: int, height: int) -> tuple[tuple[int, ...], Companions]:
        """The encoded features' shape and everything beside them, as a closed formula. Raises RequestError (400)."""

    @abstractmethod
    def _fill(self, pixels: Pixels, features: Array) -> int:
        """Write all of `features`, in the outline's shape; 16-bit floats are uint16. Return the bytes written."""


def _as_bits(values: Array) -> Array:
    """16-bit floats as uint16 for the compiled loops; everything else as it is."""
    return values.view(np.uint16) if values.dtype == np.float16 else values
