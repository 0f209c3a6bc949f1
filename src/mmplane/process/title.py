"""What a process calls itself in `ps` and `top`."""

from __future__ import annotations

import importlib
from contextlib import suppress


def entitle(title: str) -> None:
    """Take this title. Where setproctitle is not installed the process keeps the one that it has."""
    with suppress(ModuleNotFoundError):
        importlib.import_module("setproctitle").setproctitle(title)
