"""Installed packages whose data files the bench reads."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def folder_of(package: str) -> Path:
    """Return the folder of an installed package without importing it. Raises ValueError if it is not installed."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"the bench needs the files of the package {package}: install mmplane[bench]")
    return Path(spec.submodule_search_locations[0])
