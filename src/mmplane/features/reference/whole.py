"""A checkpoint's Processor for its clips or for its sounds, called as a whole, as an engine calls it.

The call is given the placeholder alone as its text. So it also returns the tokens that replace the placeholder, and all
its other outputs are what the model takes. Parts for other modalities are not loaded.

Layouts are measured: a blank item of the same size goes through the call once. That costs as much as the item itself,
so `layout` belongs into a worker. It assumes what is true for every processor in transformers: shapes depend on sizes,
never on pixels or samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from transformers import AutoFeatureExtractor, AutoTokenizer, AutoVideoProcessor

from mmplane.core.errors import RequestError, bad_media
from mmplane.core.keys import digest_parts
from mmplane.core.records import BackendName, Layout, Modality
from mmplane.features.arithmetic.encodings import Array, Encoding, cast
from mmplane.features.checkpoint.files import CheckpointFiles, versions_of
from mmplane.features.checkpoint.vocabulary import Runs
from mmplane.features.contract.arrays import Arrays, pack
from mmplane.features.reference.checkpoint import as_array, compose

LOADERS: Mapping[Modality, Any] = {"video": AutoVideoProcessor, "audio": AutoFeatureExtractor}
PARTS: Mapping[Modality, tuple[str, ...]] = {
    "video": ("video_processor",),
    "audio": ("feature_extractor", "audio_processor"),
}
"""The names that a Processor may have for each part."""
ARGUMENTS: Mapping[Modality, str] = {"video": "videos", "audio": "audio"}
"""The name of a call's argument; `<name>_kwargs` are its options."""
BACKENDS: Mapping[Modality, BackendName] = {"video": "torchvision", "audio": "pil"}
"""By whose versions the features are named: sounds need no torchvision."""
HELPERS: Mapping[Modality, tuple[str, ...]] = {"video": ("num2words",), "audio": ("torchaudio", "librosa", "scipy")}
"""Packages that some of these classes compute with as well."""
OF_TEXT = frozenset({"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"})
"""Outputs that belong to the text."""


@dataclass(frozen=True)
class WholeCheckpoint:
    """What transformers knows about one modality of a checkpoint. `given` are options of each call."""

    files: CheckpointFiles
    modality: Modality
    processor: Any
    part: Any
    tokenizer: Any
    given: Mapping[str, Any]

    @classmethod
    def load(cls, model_folder: str, modality: Modality) -> WholeCheckpoint:
        """Load a checkpoint folder. Raises ValueError with transformers' reason if it cannot."""
        try:
            part = LOADERS[modality].from_pretrained(model_folder, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(model_folder, trust_remote_code=False)
            processor = compose(model_folder, dict.fromkeys(PARTS[modality], part) | {"tokenizer": tokenizer})
        except Exception as error:
            raise ValueError(f"transformers cannot load their processor: {said(error)}") from error
        found = cls(CheckpointFiles(model_folder), modality, processor, part, tokenizer, {})
        if not isinstance(found._token, str):
            raise ValueError(f"{type(processor).__name__} has no placeholder for them")
        return found

    def tried(self, call: Callable[[], object]) -> None:
        """Make a call. Raises ValueError with its reason, if it fails."""
        try:
            call()
        except RequestError as error:
            raise ValueError(f"{type(self.processor).__name__}: {error}") from None

    def adjusted(self, arguments: Mapping[str, Any]) -> WholeCheckpoint:
        """The same with arguments of one call."""
        return replace(self, given={**self.given, **arguments})

    @property
    def options(self) -> dict[str, Any]:
        """The part's options in a call, as its Processor merges them."""
        name = f"{ARGUMENTS[self.modality]}_kwargs"
        merged = self.processor._merge_kwargs(
            tokenizer_init_kwargs=self.tokenizer.init_kwargs, **{name: dict(self.given)}
        )
        return dict(merged[name])

    @property
    def placeholder_id(self) -> int:
        """The id of the token that stands for one item in a prompt."""
        return int(self.tokenizer.convert_tokens_to_ids(self._token))

    @property
    def _token(self) -> Any:
        return getattr(self.processor, f"{self.modality}_token", None)

    def fingerprint(self, encoding: Encoding) -> bytes:
        """Digest of the files, of all versions and of the encoding."""
        own = self.files.fingerprint(self.modality, encoding, backend=BACKENDS[self.modality])
        return digest_parts([own, b"whole call", versions_of(HELPERS[self.modality]).encode()])

    def call(self, item: Array, features: str, **options: Any) -> tuple[dict[str, Array], Runs]:
        """What the model takes of one item, `features` or else the largest first, and what replaces its placeholder.

        Raises whatever the Processor raises.
        """
        name = ARGUMENTS[self.modality]
        outputs = self.processor(
            text=[self._token],
            **{name: [item], f"{name}_kwargs": {**self.given, **options}},
            text_kwargs={"add_special_tokens": False},
            return_tensors="pt",
        )
        ids = as_array(outputs["input_ids"])[0]
        arrays = {name: as_array(value) for name, value in outputs.items() if name not in OF_TEXT}
        if loose := [name for name, array in arrays.items() if array.dtype == object]:
            raise ValueError(f"these outputs are not arrays: {', '.join(loose)}")
        first = features if features in arrays else max(arrays, key=lambda name: arrays[name].nbytes)
        return {first: arrays.pop(first), **arrays}, tuple((int(token), len([*run])) for token, run in groupby(ids))


def measured(what: str, call: Callable[[], tuple[dict[str, Array], Runs]], encoding: Encoding) -> Layout:
    """The layout of what a call returns. Raises RequestError (400) with transformers' reason."""
    try:
        arrays, expansion = call()
    except (MemoryError, RequestError):
        raise
    except Exception as error:  # noqa: BLE001 - processors raise many types, and of a blank item only the size can be wrong
        raise bad_media(f"transformers cannot take {what}: {said(error)}") from None
    named = [(name, str(_stored(array, encoding)[0]), array.shape) for name, array in arrays.items()]
    return pack(named, expansion)


def fill(arrays: Mapping[str, Array], out: Arrays, encoding: Encoding) -> int:
    """Copy what a call returned into `out`. Return how many bytes were written."""
    written_bytes = 0
    for name, target in out.items():
        _, stored = _stored(arrays[name], encoding)
        if stored.shape != target.shape or stored.dtype != target.dtype:
            raise RuntimeError("the processor's output does not have the shape that its layout said")
        np.copyto(target, stored)
        written_bytes += stored.nbytes
    return written_bytes


def _stored(array: Array, encoding: Encoding) -> tuple[str, Array]:
    """The name of an array's dtype in a slot, and its values there: floats are encoded."""
    return (encoding, cast(array, encoding)) if array.dtype == np.float32 else (array.dtype.name, array)


def said(error: BaseException) -> str:
    """The first line of what an exception says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
