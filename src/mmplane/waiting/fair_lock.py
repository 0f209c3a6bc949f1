"""A lock that tenants get in turns: what does one thing at a time is one tenant's only until another's turn comes."""

from __future__ import annotations

from mmplane.core.errors import overloaded
from mmplane.waiting.lines import Fit
from mmplane.waiting.room import WAITING_MAX, WaitingRoom


class FairLock:
    """Held by one request at a time, and by none while it is not `usable`. Who waits in vain is told `refused`.

    At most `WAITING_MAX` of a tenant wait. So many always may: what the lock guards mostly takes milliseconds, so a
    burst is no sign that they will wait in vain.
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
        """Return when it is this tenant's turn. Raises RequestError (503)."""
        await self._room.wait(tenant, self._take)
        self._served = tenant

    def release(self) -> None:
        """Let the next one have it, if it is usable."""
        self._is_held = False
        self._room.offer()

    def _take(self) -> Fit | None:
        if self._is_held or not self.usable:
            return Fit.NO_ROOM
        self._is_held = True
        return None
