"""How many pictures the arena holds, as a help for choosing `--arena-bytes`."""

from __future__ import annotations

from collections.abc import Sequence

from mmplane.core.errors import RequestError
from mmplane.features.choice import Processors

PICTURE = 1288, 966
"""Width and height of the counted photograph, in pixels."""


def described(processors: Processors, region_bytes: Sequence[int]) -> str:
    """For the log: the encoding, and how many pictures fit into the workers' regions.

    The first region is the front end's, which holds no features.
    """
    lies = f"features are stored in the arena as {processors.encoding}"
    if processors.image is None:
        return lies
    try:
        each_bytes = processors.image.layout(*PICTURE).length_bytes
    except RequestError:  # this model does not accept a picture of that size
        return lies
    fit = sum(length // each_bytes for length in region_bytes[1:])
    return f"{lies}, with room for {fit} pictures of {PICTURE[0]}x{PICTURE[1]} pixels"
