"""A lock that tenants take in turns, for a resource that does one thing at a time."""

from __future__ import annotations

from mmplane.core.errors import overloaded
from mmplane.waiting.lines import Fit
from mmplane.waiting.room import WAITING_MAX, WaitingRoom


class FairLock:
    """Held by one request at a time, and by none while it is not `usable`. `refused` is the error after a wait in vain.

    At most `WAITING_MAX` requests of a tenant wait, and that many always may: what the lock guards mostly takes
    milliseconds, so a burst is no sign that they will wait in vain.
    """

    def __init__(self, refused: str, *, usable: bool = True) -> None:
        self.usable = usable
        self._is_held = False
        self._served = ""
        self._room: WaitingRoom[None] = WaitingRoom(
            give_back=lambda _: self.release(),
            refusal=lambda _: overloaded(refused),
            held=lambda tenant: int(tenant == self._served),
            waiting_min=WAITING_MAX,
        )

    async def acquire(self, tenant: str) -> None:
        """Wait until it is this tenant's turn. Raises RequestError (503)."""
        await self._room.wait(tenant, self._take)
        self._served = tenant

    def release(self) -> None:
        """Pass the lock to the next request, if it is usable."""
        self._is_held = False
        self._room.offer()

    def _take(self) -> Fit | None:
        if self._is_held or not self.usable:
            return Fit.NO_ROOM
        self._is_held = True
        return None
