"""Where the built-in model's folder lies once it is built. It imports nothing heavy, so that a second start is fast."""

from __future__ import annotations

import os
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

SHIPPED_WEIGHTS = Path(__file__).parent / "weights" / "tiny.safetensors"
"""The trained weights, bfloat16. They are package data."""


def tiny_folder(cache_folder: Path) -> Path:
    """The folder inside `cache_folder`; it is complete if it exists.

    It is named by what goes into it, so that a new version of the package never meets an old folder. Where another user
    has built one that we cannot read, there is one of our own beside it.
    """
    digest = blake2b(digest_size=8)
    digest.update(Path(__file__).with_name("tiny.py").read_bytes())
    digest.update(version("transformers").encode())
    if SHIPPED_WEIGHTS.exists():
        digest.update(SHIPPED_WEIGHTS.read_bytes())
    folder = cache_folder / f"tiny-{digest.hexdigest()}"
    return folder if _is_readable(folder) else folder.with_name(f"{folder.name}-{os.getuid()}")


def _is_readable(folder: Path) -> bool:
    """Whether we may read all of it, or it is not there."""
    if not folder.is_dir():
        return True
    return os.access(folder, os.R_OK | os.X_OK) and all(os.access(file, os.R_OK) for file in folder.iterdir())
