"""Finds a model's files."""

from __future__ import annotations

from pathlib import Path

from mmplane.models.cached import built_in_folder


def model_folder(model: str) -> str:
    """The folder of a model's files; a hub id is returned as it is. Raises ValueError."""
    if model == "tiny":
        return built_in_folder()
    if Path(model).is_dir():
        return str(Path(model).resolve())
    if model.count("/") == 1 and not model.startswith((".", "/")):
        return model  # a hub id: transformers resolves it
    raise ValueError(f"--model: no such folder: {model}")


def name_of(model: str) -> str:
    """The default name of the model in requests."""
    return Path(model).resolve().name if Path(model).is_dir() else model
