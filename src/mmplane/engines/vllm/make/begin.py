"""The launcher's decision whether this server uses `make`, and its start in each API process.

vLLM's classes are imported only then, because a plugin is loaded before vLLM has decided what its processes import.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from mmplane.embed.client import Client
from mmplane.embed.sidecar import Settings
from mmplane.engines.kit.tally import Tally
from mmplane.engines.vllm.make.reasons import REASONS

log = logging.getLogger("vllm.mmplane")

_PLAN = "mmplane.engines.vllm.make.plan"
_PACKAGES = ("av", "imagecodecs", "ml_dtypes", "numba", "setproctitle", "simplejpeg", "soundfile", "soxr", "tokenizers")
"""Packages of the extra `media`, without which a sidecar with a model does not start."""


def making(config: Any) -> tuple[Settings | None, str | None]:
    """Return how the sidecar makes features for this VllmConfig, or None and the reason."""
    missing = next((name for name in _PACKAGES if find_spec(name) is None), None)
    if missing is not None:
        return None, f"there is no {missing}: pip install 'mmplane[media]'"
    plan: Any = importlib.import_module(_PLAN)
    if os.environ.get(plan.CONNECTOR_VARIABLE) == plan.CONNECTOR:  # of another server that this process has started
        del os.environ[plan.CONNECTOR_VARIABLE]
    try:
        return plan.plan(config).sidecar, None
    except plan.Uncovered as reason:
        return None, str(reason)


def begin_making(config: Any, client: Callable[[], Client | None]) -> None:
    """In a process that may become an API server. Nothing here may end it."""
    try:
        plan: Any = importlib.import_module(_PLAN)
        install: Any = importlib.import_module("mmplane.engines.vllm.make.install")
        install.install(config, plan.plan(config), client, Tally(REASONS, log))
    except Exception as error:  # noqa: BLE001 - vLLM may have changed in any way, and goes on by itself
        log.warning("mmplane: make is off in this process: %s: %s", type(error).__name__, error)
