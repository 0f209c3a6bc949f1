"""`mmplane doctor --vllm [URL]`: checks whether the plugin will work in this environment, and in a running server.

Run it with the Python that vLLM runs with. It exits with 0 if every line says `ok`. Given the URL of a server, it
fails if images were served and no features went through the arena.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from mmplane.engines.kit import doctor
from mmplane.engines.vllm import settings
from mmplane.engines.vllm.plugin import GROUP, NAME, PLUGIN

METRICS = "vLLM shows its figures at /metrics unless --disable-log-stats is given"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    verdict = PLUGIN.verdict()
    checks: dict[str, doctor.Check] = {
        f"vLLM: {verdict.says}" if verdict.is_on else "vLLM": lambda: None if verdict.is_on else verdict.says,
        "vLLM finds the plugin": _is_found,
        "settings, and memory for the arena": _has_memory,
        "a tensor through a sidecar's arena": doctor.makes_the_trip,
    }
    return doctor.run("vllm", checks, arguments, metrics=METRICS)


def _is_found() -> str | None:
    return doctor.entry_point(GROUP, NAME, os.environ.get("VLLM_PLUGINS"), "VLLM_PLUGINS")


def _has_memory() -> str | None:
    """Raises ValueError with the problem."""
    settings.arena_bytes()
    return None if settings.modes() else f"{settings.MODES_VARIABLE} switches it off"
