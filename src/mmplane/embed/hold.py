"""A hold: the producer's own lease on an item, which ends with the object."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from mmplane.arena.arrays import array
from mmplane.core.records import Item, Slot
from mmplane.embed.records import Leased


class Hold:
    """Keeps an item resident until this object is gone.

    `content` is the bytes of a slot. `end` may be called from a finalizer.
    """

    def __init__(
        self,
        item: Item,
        *,
        content: Callable[[Slot], memoryview],
        lease: Callable[[Item, int | None], Leased],
        end: Callable[[], object],
    ) -> None:
        self.item = item
        self._content = content
        self._lease = lease
        weakref.finalize(self, end).atexit = False

    def lease(self, group: int | None = None) -> Leased:
        """A record for one message to the ranks of one group, which lease the item until each has ended it.

        Without `group`, where there are several, it is the group of the rank that first ends its share. Raises
        NotJoined, TooManyLeases.
        """
        return self._lease(self.item, group)

    def arrays(self, library: Any) -> dict[str, Any]:
        """The arrays in place. They are everybody's: do not write, and do not keep them longer than the hold."""
        view = self._content(self.item.slot)
        return {tensor.name: array(library, tensor, view, 0, len(view)) for tensor in self.item.tensors}
