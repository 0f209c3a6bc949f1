"""`mmplane doctor --vllm [URL]`: whether the plugin will work in this environment, and whether it does in a server.

Run it with the Python that vLLM runs with. It exits with 0 when every line says `ok`. Given the URL of a server it
fails when images were served and no features went through the arena.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from importlib import import_module
from importlib.metadata import entry_points

from mmplane.embed.inbox import Inbox
from mmplane.embed.sidecar import Sidecar
from mmplane.engines.kit import doctor
from mmplane.engines.vllm import settings
from mmplane.engines.vllm.plugin import GROUP, NAME, PLUGIN

METRICS = "vLLM shows its figures at /metrics unless --disable-log-stats is given"
ARENA_BYTES = 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    verdict = PLUGIN.verdict()
    checks: dict[str, doctor.Check] = {
        f"vLLM: {verdict.says}" if verdict.is_on else "vLLM": lambda: None if verdict.is_on else verdict.says,
        "vLLM finds the plugin": _is_found,
        "settings, and memory for the arena": _has_memory,
        "a tensor through a sidecar's arena": _makes_the_trip,
    }
    return doctor.run("vllm", checks, arguments, metrics=METRICS)


def _is_found() -> str | None:
    if not any(point.name == NAME for point in entry_points(group=GROUP)):
        return "no entry point: install mmplane into this environment"
    chosen = os.environ.get("VLLM_PLUGINS")
    if chosen is not None and NAME not in chosen.split(","):
        return f"VLLM_PLUGINS leaves it out: add {NAME}"
    return None


def _has_memory() -> str | None:
    """Raises ValueError with what is wrong."""
    settings.arena_bytes()
    return None if settings.modes() else f"{settings.MODES_VARIABLE} switches it off"


def _makes_the_trip() -> str | None:
    """Put by a producer, leased, opened by a rank. Raises what the library raises."""
    torch = import_module("torch")  # vLLM has it; the other checks need vLLM alone
    source = torch.arange(1000, dtype=torch.bfloat16)
    with (
        Sidecar.start(model=None, producers_bytes=ARENA_BYTES) as sidecar,
        sidecar.connect(arena_bytes=ARENA_BYTES) as client,
        closing(Inbox(sidecar.socket)) as inbox,
    ):
        client.wait_ranks()
        with client.put(bytes(32), {"f": source}) as hold:
            arrived = inbox.open(hold.lease()).arrays(torch)["f"]
            return None if torch.equal(arrived, source) else "it arrived changed: please report this"
