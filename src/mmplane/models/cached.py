"""Where the built-in model's folder lies once it is built. It imports nothing heavy, so that a second start is fast."""

from __future__ import annotations

from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

SHIPPED_WEIGHTS = Path(__file__).parent / "weights" / "tiny.safetensors"
"""The trained weights, bfloat16. They are package data."""


def tiny_folder(cache_folder: Path) -> Path:
    """The folder inside `cache_folder`; it is complete if it exists.

    It is named by what goes into it, so that a new version of the package never meets an old folder.
    """
    digest = blake2b(digest_size=8)
    digest.update(Path(__file__).with_name("tiny.py").read_bytes())
    digest.update(version("transformers").encode())
    if SHIPPED_WEIGHTS.exists():
        digest.update(SHIPPED_WEIGHTS.read_bytes())
    return cache_folder / f"tiny-{digest.hexdigest()}"
