"""The entry point `mmplane` of the group `sglang.srt.plugins`: SGLang calls `load` in each of its processes.

Either every hook applies and this version is known to work, or nothing is changed. One line in the launcher's log
reports it.
"""

from __future__ import annotations

from importlib.metadata import version

from mmplane.engines.kit import applied
from mmplane.engines.kit.hooks import Hook
from mmplane.engines.kit.plugin import Plugin

GROUP, NAME = "sglang.srt.plugins", "mmplane"
"""The group in which SGLang looks for plugins, and this plugin's name in `SGLANG_PLUGINS`."""

TESTED = ("0.5.20", "0.5.21", "0.5.22", "0.5.23")
"""The versions of SGLang that the tests run with: CI uses the last one, `make test-sglang-versions` the others."""

PLUGIN = Plugin(
    "SGLang",
    "sglang",
    TESTED,
    hooks="mmplane.engines.sglang.hooks:HOOKS",
    self_test="mmplane.engines.sglang.selftest:self_test",
)


def load() -> None:
    """Register every hook, or none."""
    PLUGIN.load(_register)


def known() -> str:
    """How this version is known to work, for the log: "0.5.23 (tested)"."""
    return f"{version('sglang')} ({PLUGIN.judged.says if PLUGIN.judged else 'not loaded'})"


def _register(hooks: tuple[Hook, ...]) -> None:
    """SGLang applies registered hooks once all plugins are loaded."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    applied.remember(hooks)
    for hook in hooks:
        HookRegistry.register(hook.target, hook.wrapper, HookType.AROUND)
