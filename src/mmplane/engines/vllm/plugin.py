"""The entry point `mmplane` of the group `vllm.general_plugins`: vLLM calls `load` in each of its processes.

Every hook applies, or nothing is changed. One line in the launcher's log reports it.
"""

from __future__ import annotations

from mmplane.engines.kit import applying
from mmplane.engines.kit.plugin import Plugin

GROUP, NAME = "vllm.general_plugins", "mmplane"
"""The group in which vLLM looks for plugins, and this plugin's name in `VLLM_PLUGINS`."""

PLUGIN = Plugin(
    engine="vLLM",
    package="vllm",
    tested=("0.32.0",),
    compared="0.33.0",
    hooks="mmplane.engines.vllm.hooks.HOOKS",
    self_test="mmplane.engines.vllm.trip.check",
    logger="vllm.mmplane",
)


def load() -> None:
    """Wrap every function, or none. An exception would end vLLM, so none escapes."""
    PLUGIN.load(applying.apply)
