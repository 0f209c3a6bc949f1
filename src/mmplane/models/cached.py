"""Where the built-in model's folder lies, and how it comes to be there. Nothing heavy is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

SHIPPED_WEIGHTS = Path(__file__).parent / "weights" / "tiny.safetensors"
"""The trained weights, bfloat16, which are package data."""


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


def cache_folder() -> Path:
    """Where mmplane keeps files from one start to the next. Raises ValueError for a user without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmplane"
    except RuntimeError:
        raise ValueError("this user has no home folder: set XDG_CACHE_HOME to a folder that can be written") from None


def built_in_folder() -> str:
    """The folder; built on first use, in a process of its own: this one never imports torch. Raises ValueError."""
    cache = cache_folder()
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
