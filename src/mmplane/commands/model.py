"""Where a model's files lie."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mmplane.models.cached import tiny_folder


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


def built_in_folder() -> str:
    """Build the built-in model on first use, in a process of its own: this one never imports torch."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmplane"
    try:
        if (built_before := tiny_folder(cache)).is_dir():
            return str(built_before)
    except OSError as error:
        why = f"{cache} cannot be read ({error.strerror})"
        raise ValueError(f"--model tiny: {why}: set XDG_CACHE_HOME to another folder") from None
    command = [sys.executable, "-m", "mmplane.models.tiny", str(cache)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        why = (built.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(f"--model tiny: the built-in model could not be built in {cache}: {why}")
    print(built.stderr, file=sys.stderr, end="")
    return built.stdout.strip()
