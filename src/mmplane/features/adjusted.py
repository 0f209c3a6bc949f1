"""Processors with a call's own arguments instead of the checkpoint's, created once and cached."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from mmplane.core.errors import bad_option
from mmplane.core.records import Modality
from mmplane.features.checkpoint.arguments import parsed
from mmplane.features.choice import Processors

ADJUSTED_MAX = 64
"""Number of processors in the cache."""


def adjusted(processors: Processors, modality: Modality, arguments: str) -> Processors:
    """Return the same processors, but that of `modality` with these arguments (a JSON object; empty: its own).

    Raises RequestError: 400 for arguments that it does not support, 422 if the model takes no such items.
    """
    return _adjusted(processors, modality, arguments) if arguments else processors


@lru_cache(maxsize=ADJUSTED_MAX)
def _adjusted(processors: Processors, modality: Modality, arguments: str) -> Processors:
    processor = processors.of(modality)
    try:
        changed: dict[str, Any] = {modality: processor.adjusted(parsed(arguments))}
    except ValueError as error:
        raise bad_option(str(error)) from None
    return replace(processors, **changed)
