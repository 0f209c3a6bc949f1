"""Arguments of one call of a processor, which override the checkpoint's.

Names and meanings are those of transformers' processors; `several` means that the image is not the only one in its
prompt. The arguments that a class supports follow from its options (`mmplane.features.checkpoint.defaults`). Arguments
that follow from the model, such as the size of a patch, cannot be given, nor those that transformers accepts and
ignores.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

Pixels = Annotated[int, Meta(ge=1, le=2**31)]
Few = Annotated[int, Meta(ge=1, le=4096)]
Flag = bool | UnsetType
Colours = tuple[float, float, float] | UnsetType
Edge = Literal["height", "width", "shortest_edge", "longest_edge", "max_height", "max_width"]


class Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All arguments, for images and clips. Sides and areas are in pixels."""

    size: dict[Edge, Pixels] | UnsetType = UNSET
    min_pixels: Pixels | UnsetType = UNSET
    max_pixels: Pixels | UnsetType = UNSET
    crop_size: dict[Literal["height", "width"], Pixels] | UnsetType = UNSET
    do_resize: Flag = UNSET
    do_center_crop: Flag = UNSET
    do_pad: Flag = UNSET
    do_rescale: Flag = UNSET
    rescale_factor: float | UnsetType = UNSET
    do_normalize: Flag = UNSET
    image_mean: Colours = UNSET
    image_std: Colours = UNSET
    crop_to_patches: Flag = UNSET
    min_patches: Few | UnsetType = UNSET
    max_patches: Few | UnsetType = UNSET
    do_sample_frames: Flag = UNSET
    num_frames: Few | UnsetType = UNSET
    min_frames: Few | UnsetType = UNSET
    max_frames: Few | UnsetType = UNSET
    cap_pixels_per_frame: Flag = UNSET
    several: Flag = UNSET


LIMITS = {"min_pixels": "shortest_edge", "max_pixels": "longest_edge"}
"""Older names of two edges of `size`, and their current names."""


def parsed(text: str) -> dict[str, Any]:
    """Parse the arguments of a JSON object. Raises ValueError for names and values that no processor supports."""
    try:
        given = msgspec.json.decode(text, type=Arguments)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not an argument of a processor: {error}") from None
    arguments = {name: value for name in given.__struct_fields__ if (value := getattr(given, name)) is not UNSET}
    if 0.0 in arguments.get("image_std", ()):
        raise ValueError("image_std must not be 0")
    return arguments


def check_names(kind: str, arguments: Mapping[str, Any], taken: Collection[str]) -> None:
    """Raise ValueError if the class `kind` does not support all of them."""
    if unknown := sorted(arguments.keys() - taken):
        there_are = sorted(set(taken) & set(Arguments.__struct_fields__))
        raise ValueError(f"{kind} takes no {', '.join(unknown)}: there are {', '.join(there_are)}")
