"""How many pictures the arena holds, which an operator sets `--arena-bytes` by."""

from __future__ import annotations

from collections.abc import Sequence

from mmplane.core.errors import RequestError
from mmplane.features.choice import Processors

PICTURE = 1288, 966
"""Width and height of the photograph that is counted, in pixels."""


def described(processors: Processors, region_bytes: Sequence[int]) -> str:
    """For the log: how features lie in regions of these lengths, and how many pictures fit into those of the workers.

    The first region is the front end's, where no features lie.
    """
    lies = f"features lie in the arena as {processors.encoding}"
    if processors.image is None:
        return lies
    try:
        each_bytes = processors.image.layout(*PICTURE).length_bytes
    except RequestError:  # this model takes no picture of that size
        return lies
    fit = sum(length // each_bytes for length in region_bytes[1:])
    return f"{lies}, with room for {fit} pictures of {PICTURE[0]}x{PICTURE[1]} pixels"
