"""The interface of makers, which turn media into items for the keeper, and a maker that makes nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from mmplane.core.errors import RequestError, unsupported
from mmplane.core.records import Recipe
from mmplane.sidecar.records import Media
from mmplane.sidecar.session import Session

if TYPE_CHECKING:  # the store imports every processor, which a carry-only sidecar does not need
    from mmplane.items.store import Asset


class Maker(ABC):
    """Makes items in the arena from producers' media."""

    fingerprint: bytes
    """Fingerprint of its processors: equal fingerprints make equal features."""

    @abstractmethod
    async def describe(self, session: Session, request: int, media: Media, /) -> tuple[bytes, Recipe]:
        """Return key and recipe. Raises RequestError, Misuse."""

    @abstractmethod
    async def obtain(self, session: Session, request: int, media: Media, hold: int, /) -> Asset:
        """Return the item, leased to the session's process for this hold. Raises RequestError, Misuse."""

    @abstractmethod
    def statistics(self) -> dict[str, Any]:
        """Items made, bytes written, workers by state, and the budget."""


class Carrier(Maker):
    """Makes nothing: producers bring features (`put`, `draft`), and the sidecar carries them to the ranks."""

    fingerprint = b""

    async def describe(self, *_: object) -> tuple[bytes, Recipe]:
        """Raises RequestError (422)."""
        raise _carries_only()

    async def obtain(self, *_: object) -> Asset:
        """Raises RequestError (422)."""
        raise _carries_only()

    def statistics(self) -> dict[str, Any]:
        """No figures, because nothing is made."""
        return {"materialisations": 0, "bytes_written": 0, "budget": {"reserved_bytes": 0}, "workers": {"states": {}}}


def _carries_only() -> RequestError:
    return unsupported("this sidecar only carries features: it was started with --carry-only", "media")
