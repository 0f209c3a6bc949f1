"""The entry point `mmplane` of the group `sglang.srt.plugins`: SGLang calls `load` in each of its processes.

Either every hook takes and the version is one that this was tested with, or nothing at all is changed. One line in the
launcher's log says which.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil

import sglang
from sglang.srt.plugins.hook_registry import HookRegistry, HookType

from mmplane.engines.sglang import applied

log = logging.getLogger("mmplane")

GROUP, NAME = "sglang.srt.plugins", "mmplane"
"""Where SGLang looks for plugins, and what `SGLANG_PLUGINS` calls this one."""

HOOKS = "mmplane.engines.sglang.hooks"

VERSIONS = ("0.5.23",)
"""The versions of SGLang that the tests have run with."""


def load() -> None:
    """Register every hook, or none."""
    reason = unfit()
    if reason is not None:
        log.warning("mmplane: off: %s", reason)
        return
    # Not imported above: it stands on internals that another version may not have.
    hooks = importlib.import_module(HOOKS).HOOKS
    applied.remember(hooks)
    for target, hook in hooks.items():
        HookRegistry.register(target, hook, HookType.AROUND)


def unfit() -> str | None:
    """Why this SGLang cannot be served, if it cannot."""
    if sglang.__version__ not in VERSIONS:
        return f"SGLang {sglang.__version__} has not been tested; these have: {', '.join(VERSIONS)}"
    try:
        for target in importlib.import_module(HOOKS).HOOKS:
            pkgutil.resolve_name(target)
    except (ImportError, AttributeError) as error:
        return f"this SGLang lacks what is hooked ({error})"
    return None
