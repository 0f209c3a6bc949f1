"""Processors with arguments of one call in place of what the checkpoint says, made once and remembered."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from mmplane.core.errors import bad_option
from mmplane.core.records import Modality
from mmplane.features.checkpoint.arguments import parsed
from mmplane.features.choice import Processors

ADJUSTED_MAX = 64
"""So many are remembered."""


def adjusted(processors: Processors, modality: Modality, arguments: str) -> Processors:
    """The same processors, the one of `modality` with these arguments (a JSON object; empty: its own).

    Raises RequestError (400) for arguments that it does not take, 422 when the model takes none of this modality.
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
