"""Files beside the package that people copy: `examples/` and `deploy/`, also where only a wheel is installed."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def folder(name: str) -> Path:
    """`examples` or `deploy`: inside the wheel, or of the checkout that is installed in place."""
    shipped = PACKAGE / "_files" / name
    return shipped if shipped.is_dir() else PACKAGE.parents[1] / name
