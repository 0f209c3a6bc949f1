"""A feature that the sidecar made: a tensor over its memory, and the hold that keeps it there."""

from __future__ import annotations

from typing import Any, NamedTuple

from mmplane.embed.hold import SidecarHold

_ATTRIBUTE = "mmplane_made"


class Made(NamedTuple):
    """The hold on an item, and which of its arrays a tensor is. `hold.key` identifies file, processor and options."""

    hold: SidecarHold
    array: str


def marked(tensor: Any, hold: SidecarHold, array: str) -> Any:
    """Return the same tensor, registered for `made_of` together with all views of the whole of it."""
    setattr(_root(tensor), _ATTRIBUTE, Made(hold, array))
    return tensor


def made_of(value: Any) -> Made | None:
    """Return the hold of this tensor, if it is a whole array that the sidecar made."""
    if not hasattr(value, "data_ptr"):
        return None
    root = _root(value)
    made: Made | None = getattr(root, _ATTRIBUTE, None)
    if made is None or not value.is_contiguous():
        return None
    same = (value.data_ptr(), value.numel(), value.dtype) == (root.data_ptr(), root.numel(), root.dtype)
    return made if same else None


def _root(tensor: Any) -> Any:
    """Return the tensor that a view is based on. It lives as long as its views."""
    return tensor if tensor._base is None else tensor._base
