"""`mmplane doctor --sglang [URL]`: checks whether the plugin will work in this environment, and in a running server.

Run it with the Python that SGLang runs with. It exits with 0 if every line says `ok`. Given the URL of a server that
was started with `--enable-metrics`, it fails if images were served and no features went through the arena.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from mmplane.engines.kit import doctor
from mmplane.engines.sglang.plugin import GROUP, NAME, PLUGIN
from mmplane.engines.sglang.settings import arena_bytes

METRICS = "start it with --enable-metrics"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    verdict = PLUGIN.verdict()
    checks: dict[str, doctor.Check] = {
        f"SGLang: {verdict.says}" if verdict.is_on else "SGLang": lambda: None if verdict.is_on else verdict.says,
        "SGLang finds the plugin": _is_found,
        "memory for the arena": _has_memory,
        "a tensor through a sidecar's arena": doctor.makes_the_trip,
    }
    return doctor.run("sglang", checks, arguments, metrics=METRICS)


def _is_found() -> str | None:
    chosen = os.environ.get("SGLANG_PLUGINS", "").replace(" ", "")
    return doctor.entry_point(GROUP, NAME, chosen or None, "SGLANG_PLUGINS")


def _has_memory() -> str | None:
    """Raises ValueError with the problem."""
    arena_bytes()
    return None
