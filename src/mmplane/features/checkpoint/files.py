"""The files of a checkpoint that configure its processors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmplane.core.keys import digest_parts
from mmplane.core.records import BackendName, Modality

if TYPE_CHECKING:  # it imports NumPy, which code that only reads the files does not need
    from mmplane.features.arithmetic.encodings import Encoding

NAMES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
)
"""All files that features, layouts and expansions depend on."""

COMPUTING = ("transformers", "torch", "numpy", "pillow")
"""Packages whose versions can change a processor's output; torchvision in addition, for its own backend.

transformers, torch and torchvision may be missing.
"""
DECODING: Mapping[Modality, tuple[str, ...]] = {
    "image": ("pillow", "simplejpeg", "imagecodecs", "pi-heif"),
    "video": ("av",),
    "audio": ("soundfile", "av", "soxr"),
}
"""Packages whose versions can change a processor's input."""


class CheckpointFiles:
    """Reads a checkpoint's folder; a missing file counts as empty."""

    def __init__(self, model: str) -> None:
        """`model` is a folder or a hub id."""
        self._model = model
        self._read: dict[str, dict[str, Any]] = {}
        self._versions = cache(versions)  # takes milliseconds, and is needed for every key

    @cached_property
    def folder(self) -> Path:
        """Where the files are. For a hub id they are downloaded, or taken from the cache if that is not possible."""
        if (path := Path(self._model)).is_dir():
            return path
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(self._model, allow_patterns=list(NAMES)))

    def json(self, name: str) -> dict[str, Any]:
        """Return the content of one file. Raises ValueError if it cannot be read or is not a JSON object."""
        if name not in self._read:
            path = self.folder / name
            try:
                content = json.loads(path.read_bytes()) if path.exists() else {}
            except OSError as error:
                raise ValueError(f"{path} cannot be read: {error.strerror}") from None
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path} is not JSON: {error}") from None
            if not isinstance(content, dict):
                raise ValueError(f"{path} is not a JSON object")
            self._read[name] = content
        return self._read[name]

    def part(self, name: str, own_file: str) -> dict[str, Any]:
        """The settings of one part of the processor: nested in `processor_config.json`, or in a separate file."""
        nested: dict[str, Any] | None = self.json("processor_config.json").get(name)
        return self.json(own_file) if nested is None else nested

    @property
    def model_type(self) -> str:
        """The type in `config.json`."""
        return str(self.json("config.json").get("model_type", ""))

    @cached_property
    def digest(self) -> bytes:
        """32 bytes over all of `NAMES`."""
        parts = ((name.encode(), path.read_bytes()) for name in NAMES if (path := self.folder / name).is_file())
        return digest_parts(part for pair in parts for part in pair)

    def fingerprint(
        self, modality: Modality, encoding: Encoding, *, backend: BackendName = "pil", compared: bool = True
    ) -> bytes:
        """32 bytes over the files, versions, and whether the fast path was compared with transformers."""
        state = f"{modality} {backend} {encoding} {self._versions(backend) if compared else 'not compared'}"
        return digest_parts([self.digest, state.encode()])


def versions(backend: BackendName = "pil") -> str:
    """The versions of the computing packages; reading them imports nothing."""
    return versions_of((*COMPUTING, "torchvision") if backend == "torchvision" else COMPUTING)


def versions_of(names: Iterable[str]) -> str:
    """The versions of installed packages by name; "-" if one is missing."""
    return ", ".join(f"{name} {_version(name)}" for name in names)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "-"
