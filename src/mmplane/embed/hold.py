"""A hold: the producer's own claim on an item, which ends with the object and the arrays over it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from mmplane.arena.arrays import array
from mmplane.core.records import Item
from mmplane.embed.awaited import awaited
from mmplane.embed.records import Leased


class Hold:
    """Keeps an item resident until this object is released or gone, and every array over it is gone too.

    `window` ends the claim when it is deleted. As a context manager, the hold is released at the end of the block.
    """

    def __init__(self, item: Item, window: Any, lease: Callable[[Item, int | None], Leased]) -> None:
        self.item = item
        self._window = window
        self._lease = lease

    @property
    def key(self) -> bytes:
        """The item's content key, 32 bytes."""
        return self.item.content_key

    def lease(self, group: int | None = None) -> Leased:
        """Lease the item to the ranks of one group, for one message. Returns the record to send.

        The item stays until each rank has ended its lease. Without `group`, if there are several, the lease belongs to
        the group of the first rank that ends its share. Raises NotJoined, TooManyLeases.
        """
        self._check_held()
        return self._lease(self.item, group)

    def arrays(self, library: Any) -> dict[str, Any]:
        """The arrays in place, by name, in `library` (`torch` or `numpy`). Do not write to them: they are shared."""
        self._check_held()
        slot = self.item.slot
        return {
            tensor.name: array(library, tensor, self._window, slot.offset_bytes, slot.length_bytes)
            for tensor in self.item.tensors
        }

    def release(self) -> None:
        """Release the item. Arrays that are still alive keep it resident. May be called again."""
        self._window = None

    def _check_held(self) -> None:
        if self._window is None:
            raise ValueError("this hold has been released")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class SidecarHold(Hold):
    """A hold on an item of a sidecar. `hit`: its features existed already, or were being made."""

    def __init__(
        self,
        item: Item,
        window: Any,
        lease: Callable[[Item, int | None], Future[Leased]],
        *,
        wait: Callable[[Future[Leased]], Leased],
        hit: bool,
    ) -> None:
        super().__init__(item, window, lambda item, group: wait(lease(item, group)))
        self._ask = lease
        self.hit = hit

    async def alease(self, group: int | None = None) -> Leased:
        """`lease`, for asyncio."""
        self._check_held()
        return await awaited(self._ask(self.item, group))
