"""A process's name in `ps` and `top`."""

from __future__ import annotations

import importlib
from contextlib import suppress


def entitle(title: str) -> None:
    """Set the name. Without setproctitle the process keeps its name."""
    with suppress(ModuleNotFoundError):
        importlib.import_module("setproctitle").setproctitle(title)
