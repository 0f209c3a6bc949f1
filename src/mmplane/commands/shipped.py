"""The folders `examples/` and `deploy/`, whose files people copy, even if only a wheel is installed."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def folder(name: str) -> Path:
    """The folder `examples` or `deploy`: inside the wheel, or in the checkout of an editable installation."""
    shipped = PACKAGE / "_files" / name
    return shipped if shipped.is_dir() else PACKAGE.parents[1] / name
