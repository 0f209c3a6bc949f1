"""Where a model's files lie."""

from __future__ import annotations

from pathlib import Path

from mmplane.models.cached import built_in_folder


def model_folder(model: str) -> str:
    """Where a model's files lie; a hub id as it is. Raises ValueError."""
    if model == "tiny":
        return built_in_folder()
    if Path(model).is_dir():
        return str(Path(model).resolve())
    if model.count("/") == 1 and not model.startswith((".", "/")):
        return model  # a hub id: transformers resolves it
    raise ValueError(f"--model: no such folder: {model}")


def name_of(model: str) -> str:
    """What requests call it, unless the operator says otherwise."""
    return Path(model).resolve().name if Path(model).is_dir() else model
