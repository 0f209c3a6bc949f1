"""The byte budget for everything that requests bring or make outside the arena (invariant 8).

    request: its body, and what is fetched for it     at most `limit - kept` together; waits for its turn, then 503
    item:    its pixels while it is decoded           may also use the kept part; waits for its turn

Because a part is `kept` for items, an item that has a worker can always be decoded eventually: requests that hold the
rest wait for items, and items never wait for requests. Each tenant's requests wait in a separate line, and no tenant
holds more than its share.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from types import TracebackType

import msgspec

from mmplane.core.errors import RequestError, overloaded, too_large
from mmplane.core.keyring import DEFAULT_TENANT
from mmplane.waiting.lines import Fit
from mmplane.waiting.room import WaitingRoom
from mmplane.waiting.share import Share


class BudgetStatistics(msgspec.Struct, frozen=True):
    """The budget now, and how often there was no room."""

    limit_bytes: int
    reserved_bytes: int
    peak_bytes: int
    refused: int
    waiting: int = 0


class Reservation:
    """Bytes held until `release` or the end of the block, whichever comes first."""

    def __init__(self, budget: Budget, tenant: str | None, length_bytes: int) -> None:
        self._budget = budget
        self._tenant = tenant
        self._length_bytes = length_bytes

    def grow(self, length_bytes: int) -> None:
        """Hold more bytes. Raises RequestError if there is no room now, because a growing reservation cannot wait."""
        self._budget._grow(self._tenant, length_bytes)
        self._length_bytes += length_bytes

    def release(self) -> None:
        """Return the bytes. Idempotent."""
        length_bytes, self._length_bytes = self._length_bytes, 0
        self._budget._give_back(self._tenant, length_bytes)

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Budget:
    """The bytes that requests and items in progress may use together; `kept_bytes` of them are only for items."""

    def __init__(self, limit_bytes: int, *, kept_bytes: int = 0, tenants: int = 1) -> None:
        self._limit_bytes = limit_bytes
        self._kept_bytes = kept_bytes
        self._requests_bytes_max = limit_bytes - kept_bytes
        self._share = Share(self._requests_bytes_max, tenants)
        self._items_bytes = 0
        self._peak_bytes = 0
        self._refused = 0
        self._requests = self._room(lambda tenant: self._share.held(str(tenant)))
        self._items = self._room(lambda _: 0)

    async def admit(self, length_bytes: int, tenant: str = DEFAULT_TENANT) -> Reservation:
        """Hold `length_bytes` for a request, waiting for its turn.

        Raises RequestError: 413 if they can never fit, 503 if they do not fit in time (at once if that is foreseeable).
        """
        self._check_ever(tenant, length_bytes)
        return await self._requests.wait(tenant, partial(self._take, tenant, length_bytes))

    def reserve(self, length_bytes: int, tenant: str = DEFAULT_TENANT) -> Reservation:
        """Hold more for an admitted request, without waiting: it holds bytes already, so it must not wait for others.

        Raises RequestError: 413 if they can never fit, 503 if they do not fit now.
        """
        self._check_ever(tenant, length_bytes)
        self._grow(tenant, length_bytes)
        return Reservation(self, tenant, length_bytes)

    def check_item(self, length_bytes: int) -> None:
        """Raise RequestError (413) if decoding one item may never take this much."""
        self._check_ever(None, length_bytes)

    async def reserve_item(self, length_bytes: int) -> Reservation:
        """Hold the memory that decoding one item takes. Raises RequestError: 413 or 503.

        Only items that have a worker ask, so no more can wait than there are workers. Each waits in a line of its own,
        so a picture's pixels do not wait for a clip's.
        """
        self._check_ever(None, length_bytes)
        return await self._items.wait(object(), partial(self._take, None, length_bytes))

    def statistics(self) -> BudgetStatistics:
        """What is reserved, the maximum so far, how often there was no room, and how many wait."""
        waiting = self._items.waiting + self._requests.waiting
        return BudgetStatistics(self._limit_bytes, self._reserved_bytes, self._peak_bytes, self._refused, waiting)

    @property
    def _reserved_bytes(self) -> int:
        return self._share.total_held + self._items_bytes

    def _room(self, held: Callable[[Hashable], int]) -> WaitingRoom[Reservation]:
        return WaitingRoom(give_back=Reservation.release, refusal=lambda _: self._no_room(), held=held)

    def _fit(self, tenant: str | None, length_bytes: int) -> Fit:
        if tenant is not None and not self._share.allows(tenant, length_bytes):
            return Fit.OWN_SHARE
        if self._reserved_bytes + length_bytes > self._limit_bytes:
            return Fit.NO_ROOM
        if tenant is not None and self._share.total_held + length_bytes > self._requests_bytes_max:
            return Fit.NO_ROOM
        return Fit.NOW

    def _check_ever(self, tenant: str | None, length_bytes: int) -> None:
        assert length_bytes >= 0, length_bytes
        if length_bytes > (self._kept_bytes if tenant is None else self._share.each_max):
            self._refused += 1
            what = "request is" if tenant is not None else "decoded media would be"
            raise too_large(f"the {what} larger than this server accepts")

    def _take(self, tenant: str | None, length_bytes: int) -> Reservation | Fit:
        fit = self._fit(tenant, length_bytes)
        if fit is not Fit.NOW:
            return fit
        if tenant is None:
            self._items_bytes += length_bytes
        else:
            self._share.take(tenant, length_bytes)
        self._peak_bytes = max(self._peak_bytes, self._reserved_bytes)
        return Reservation(self, tenant, length_bytes)

    def _grow(self, tenant: str | None, length_bytes: int) -> None:
        if isinstance(self._take(tenant, length_bytes), Fit):
            raise self._no_room()

    def _give_back(self, tenant: str | None, length_bytes: int) -> None:
        if tenant is None:
            self._items_bytes -= length_bytes
            assert self._items_bytes >= 0
        else:
            self._share.give_back(tenant, length_bytes)
        self._items.offer()
        self._requests.offer()

    def _no_room(self) -> RequestError:
        self._refused += 1
        return overloaded("the server has no memory for this request now")
