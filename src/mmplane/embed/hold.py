"""A hold: the producer's own lease on an item, which ends with the object."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from mmplane.arena.arrays import array
from mmplane.core.records import Item
from mmplane.embed.records import Leased

if TYPE_CHECKING:
    from mmplane.embed.plane import Plane


class Hold:
    """Keeps an item resident until this object is gone."""

    def __init__(self, plane: Plane, item: Item, tag: int) -> None:
        self.item = item
        self._plane = plane
        weakref.finalize(self, plane.end_hold, item.slot, tag).atexit = False

    def lease(self, group: int | None = None) -> Leased:
        """A record for one message to the ranks of one group, which lease the item until each has ended it.

        Without `group`, where there are several, it is the group of the rank that first ends its share. Raises
        NotJoined, TooManyLeases.
        """
        return self._plane.lease(self.item, group)

    def arrays(self, library: Any) -> dict[str, Any]:
        """The arrays in place. They are everybody's: do not write, and do not keep them longer than the hold."""
        view = self._plane.content(self.item.slot)
        return {tensor.name: array(library, tensor, view, 0, len(view)) for tensor in self.item.tensors}
