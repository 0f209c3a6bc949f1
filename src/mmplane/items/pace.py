"""How long an item is expected to keep a worker busy (R17). Pure.

QUICK   pictures, sounds, short clips, examining a file    any worker
SLOW    items that keep a worker busy for long             never the last worker, if there are several
"""

from __future__ import annotations

from enum import Enum

from mmplane.core.records import Recipe

SLOW_BYTES = 128 * 1024 * 1024
"""Bytes of decoded pixels of an item: about 0.2 s of one core for H.264, PNG or JPEG."""
PIXEL_BYTES = 3


class Pace(Enum):
    """How long an item is expected to keep a worker busy."""

    QUICK = "quick"
    SLOW = "slow"


def pace_of(recipe: Recipe) -> Pace:
    """Estimate the pace from the header; more of a clip is decoded than is kept."""
    length_bytes = recipe.decoded_bytes
    if recipe.clip is not None:
        length_bytes = recipe.clip.width * recipe.clip.height * PIXEL_BYTES * recipe.clip.frames_decoded
    return Pace.SLOW if length_bytes > SLOW_BYTES else Pace.QUICK
