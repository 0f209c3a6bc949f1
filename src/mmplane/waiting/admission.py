"""One budget of bytes for everything that requests bring or make outside of the arena (invariant 8).

    request: its body, and what is fetched for it     at most `limit - kept` together; waits its turn, then 503
    item:    its pixels while it is decoded           may use what is kept too; waits its turn

No more requests wait than had their turn within the time that one may wait: whoever queues behind as many would only
be told later that there is no room. So under overload a refusal comes at once.

What is `kept` for items means that an item which has a worker can always be decoded sooner or later: requests that
hold the rest wait for items, and items never wait for requests. Among waiting requests the tenant that holds least is
served first, so that one tenant's clips do not hold up another's pictures.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from dataclasses import dataclass
from types import TracebackType

import msgspec

from mmplane.core.errors import RequestError, overloaded, too_large
from mmplane.waiting.tempo import TURNS_KEPT, Tempo

WAIT_SECONDS = 5.0
"""How long a request, or an item that has a worker, may wait for its bytes."""
WAITING_MAX = TURNS_KEPT
WAITING_MIN = 8
"""So many may always wait: nobody knows yet how fast a server is that has just begun."""
DEFAULT_TENANT = ""


class BudgetStatistics(msgspec.Struct, frozen=True):
    """The budget now, and how often it said no."""

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
        """Hold so many bytes more. Raises RequestError when there is no room now: what grows cannot wait."""
        self._budget._grow(self._tenant, length_bytes)
        self._length_bytes += length_bytes

    def release(self) -> None:
        """Give the bytes back. Idempotent."""
        length_bytes, self._length_bytes = self._length_bytes, 0
        self._budget._give_back(self._tenant, length_bytes)

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


@dataclass(frozen=True)
class _Waiter:
    tenant: str | None
    length_bytes: int
    turn: asyncio.Future[None]


class Budget:
    """Bytes that requests in flight and items under way may take together.

    `kept_bytes` of it are for items alone; one tenant's requests hold at most `tenant_bytes_max`.
    """

    def __init__(self, limit_bytes: int, *, kept_bytes: int = 0, tenant_bytes_max: int | None = None) -> None:
        self._limit_bytes = limit_bytes
        self._kept_bytes = kept_bytes
        self._requests_bytes_max = limit_bytes - kept_bytes
        self._tenant_bytes_max = self._requests_bytes_max if tenant_bytes_max is None else tenant_bytes_max
        self._held: Counter[str] = Counter()  # by tenant
        self._requests_bytes = 0
        self._items_bytes = 0
        self._peak_bytes = 0
        self._refused = 0
        self._requests: dict[str, deque[_Waiter]] = {}  # by tenant, in order of asking; no tenant without any
        self._items: deque[_Waiter] = deque()
        self._tempo = Tempo()
        """Of requests."""

    async def admit(self, length_bytes: int, tenant: str = DEFAULT_TENANT) -> Reservation:
        """Hold `length_bytes` for a request, in its turn.

        Raises RequestError: 413 if they never fit, 503 if not within `WAIT_SECONDS`, at once if that can be foreseen.
        """
        self._check_ever(tenant, length_bytes)
        if sum(map(len, self._requests.values())) >= self._waiting_max():
            raise self._no_room()
        return await self._wait(self._requests.setdefault(tenant, deque()), tenant, length_bytes)

    def reserve(self, length_bytes: int, tenant: str = DEFAULT_TENANT) -> Reservation:
        """Hold more for a request that was admitted, now: it holds bytes already, so it must not wait for others'.

        Raises RequestError: 413 if they never fit, 503 if not now.
        """
        self._check_ever(tenant, length_bytes)
        self._grow(tenant, length_bytes)
        return Reservation(self, tenant, length_bytes)

    def check_item(self, length_bytes: int) -> None:
        """Raises RequestError (413) when decoding one item may never take so much."""
        self._check_ever(None, length_bytes)

    async def reserve_item(self, length_bytes: int) -> Reservation:
        """Hold what decoding one item takes, in order of asking among those that fit. Raises RequestError: 413 or 503.

        Only who has a worker asks, so no more can wait than there are workers.
        """
        self._check_ever(None, length_bytes)
        return await self._wait(self._items, None, length_bytes)

    def statistics(self) -> BudgetStatistics:
        """What is reserved, what was, how often there was no room, and how many wait."""
        waiting = len(self._items) + sum(map(len, self._requests.values()))
        return BudgetStatistics(self._limit_bytes, self._reserved_bytes, self._peak_bytes, self._refused, waiting)

    @property
    def _reserved_bytes(self) -> int:
        return self._requests_bytes + self._items_bytes

    async def _wait(self, queue: deque[_Waiter], tenant: str | None, length_bytes: int) -> Reservation:
        waiter = _Waiter(tenant, length_bytes, asyncio.get_running_loop().create_future())
        queue.append(waiter)
        self._offer()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await waiter.turn
        except BaseException as error:
            if waiter.turn.done() and not waiter.turn.cancelled():
                self._give_back(tenant, length_bytes)  # its turn came in the same turn of the loop
            else:
                self._leave(queue, waiter)
            if isinstance(error, TimeoutError):
                raise self._no_room() from None
            raise
        return Reservation(self, tenant, length_bytes)

    def _waiting_max(self) -> int:
        """How many requests may wait: as many as had their turn within the last `WAIT_SECONDS`."""
        return min(WAITING_MAX, max(WAITING_MIN, self._tempo.since(time.monotonic() - WAIT_SECONDS)))

    def _leave(self, queue: deque[_Waiter], waiter: _Waiter) -> None:
        queue.remove(waiter)
        if waiter.tenant is not None and not queue:
            del self._requests[waiter.tenant]
        self._offer()

    def _offer(self) -> None:
        """Give what is free to who waits; no request overtakes within a tenant, nor does a tenant that holds more."""
        for waiter in tuple(self._items):  # a picture's pixels do not wait for a clip's
            if self._fits(None, waiter.length_bytes):
                self._items.remove(waiter)
                self._grant(waiter)
        while self._requests:
            below = [tenant for tenant in self._requests if self._within_share(tenant, self._requests[tenant][0])]
            tenant = min(below, key=lambda each: self._held[each], default=None)
            if tenant is None or not self._fits(tenant, self._requests[tenant][0].length_bytes):
                return
            self._grant(self._requests[tenant].popleft())
            if not self._requests[tenant]:
                del self._requests[tenant]

    def _grant(self, waiter: _Waiter) -> None:
        self._take(waiter.tenant, waiter.length_bytes)
        if waiter.tenant is not None:
            self._tempo.turn(time.monotonic())
        waiter.turn.set_result(None)

    def _within_share(self, tenant: str, waiter: _Waiter) -> bool:
        return self._held[tenant] + waiter.length_bytes <= self._tenant_bytes_max

    def _fits(self, tenant: str | None, length_bytes: int) -> bool:
        if self._reserved_bytes + length_bytes > self._limit_bytes:
            return False
        if tenant is None:
            return True
        if self._held[tenant] + length_bytes > self._tenant_bytes_max:
            return False
        return self._requests_bytes + length_bytes <= self._requests_bytes_max

    def _check_ever(self, tenant: str | None, length_bytes: int) -> None:
        assert length_bytes >= 0, length_bytes
        most_bytes = min(self._requests_bytes_max, self._tenant_bytes_max) if tenant is not None else self._kept_bytes
        if length_bytes > most_bytes:
            self._refused += 1
            what = "request is" if tenant is not None else "decoded media would be"
            raise too_large(f"the {what} larger than this server takes")

    def _take(self, tenant: str | None, length_bytes: int) -> None:
        if tenant is None:
            self._items_bytes += length_bytes
        else:
            self._requests_bytes += length_bytes
            self._held[tenant] += length_bytes
        self._peak_bytes = max(self._peak_bytes, self._reserved_bytes)

    def _grow(self, tenant: str | None, length_bytes: int) -> None:
        if not self._fits(tenant, length_bytes):
            raise self._no_room()
        self._take(tenant, length_bytes)

    def _give_back(self, tenant: str | None, length_bytes: int) -> None:
        if tenant is None:
            self._items_bytes -= length_bytes
        else:
            self._requests_bytes -= length_bytes
            self._held[tenant] -= length_bytes
            if not self._held[tenant]:
                del self._held[tenant]
        assert min(self._items_bytes, self._requests_bytes, self._held[tenant or ""]) >= 0
        self._offer()

    def _no_room(self) -> RequestError:
        self._refused += 1
        return overloaded("the server has no room for this request now")
