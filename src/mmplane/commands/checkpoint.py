"""Checks a checkpoint before anything is loaded: its files, and its attention heads against `--tp`."""

from __future__ import annotations

from pathlib import Path

from mmplane.features.checkpoint.files import NAMES, CheckpointFiles
from mmplane.features.checkpoint.heads import check_heads, heads_of

MORE = ("generation_config.json", "chat_template.json")
"""Files that only a server reads."""
INDEX = "model.safetensors.index.json"
"""Lists the weight files of a checkpoint with several."""
WEIGHTS = ("*.safetensors", "*.bin")
LENGTH_BYTES = 8
"""A safetensors file begins with the length of its header."""


def check_files(model: str) -> CheckpointFiles:
    """Check that the JSON files exist and can be read; those of a hub id are downloaded. Raises ValueError."""
    files = CheckpointFiles(model)
    try:
        if not (files.folder / "config.json").exists():
            raise ValueError(f"{model} is not a checkpoint: it has no config.json")
        for name in NAMES:
            files.json(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"--model: {_sentence(model, error)}") from None
    return files


def check_checkpoint(model: str, tp: int) -> None:
    """Check that `tp` ranks can load it, as far as its files show. Raises ValueError."""
    files = check_files(model)
    try:
        for name in MORE:
            files.json(name)
        check_heads(heads_of(files.json("config.json")), tp)
        if Path(model).is_dir():  # transformers downloads the weights of a hub id
            _check_weights(files)
    except (OSError, ValueError) as error:
        raise ValueError(f"--model: {model}: {error}") from None


def _check_weights(files: CheckpointFiles) -> None:
    folder = files.folder
    missing = [name for name in _indexed(files) if not (folder / name).exists()]
    if missing:
        raise ValueError(f"{INDEX} lists {missing[0]}, which is missing: download the checkpoint again")
    if not any(path for pattern in WEIGHTS for path in folder.glob(pattern)):
        raise ValueError("the folder has no weights (*.safetensors)")
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if path.stat().st_size < LENGTH_BYTES + header_bytes:
            raise ValueError(
                f"{path.name} is not a complete safetensors file: download it again (with Git, install Git LFS)"
            )


def _indexed(files: CheckpointFiles) -> list[str]:
    listed = files.json(INDEX).get("weight_map", {})
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise ValueError(f"{INDEX} does not list weight files: download the checkpoint again")
    return sorted(set(listed.values()))


def _sentence(model: str, error: Exception) -> str:
    """Why its files cannot be read, in one sentence; the hub's library writes several paragraphs."""
    if Path(model).is_dir():
        return str(error)
    cause = str(error.__cause__ or error).partition("\n")[0]
    return f"{model} is not a local folder, and cannot be downloaded from the Hugging Face hub ({cause:.200})"
