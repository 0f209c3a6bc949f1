"""What makes items of media, as the keeper sees it; and the one that makes none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from mmplane.core.errors import RequestError, unsupported
from mmplane.core.records import Item, Recipe
from mmplane.sidecar.records import Media
from mmplane.sidecar.session import Session

if TYPE_CHECKING:  # the store imports every processor, and a sidecar that only carries needs none
    from mmplane.items.store import Asset


class Maker(ABC):
    """Makes items in the arena of what producers bring."""

    fingerprint: bytes
    """Names its processors: equal ones make equal features."""

    @abstractmethod
    async def describe(self, session: Session, request: int, media: Media, /) -> tuple[bytes, Recipe]:
        """Key and recipe. Raises RequestError, Misuse."""

    @abstractmethod
    async def obtain(self, session: Session, request: int, media: Media, tag: int, /) -> Asset:
        """The item, leased to the keeper under `tag` until `release`. Raises RequestError, Misuse."""

    @abstractmethod
    def release(self, item: Item, tag: int, /) -> None:
        """End the lease of `obtain`."""

    @abstractmethod
    def statistics(self) -> dict[str, Any]:
        """Items made, bytes written, workers by state, the budget."""


class Carrier(Maker):
    """Makes nothing: producers bring features (`put`, `draft`), and the sidecar carries them to the ranks."""

    fingerprint = b""

    async def describe(self, *_: object) -> tuple[bytes, Recipe]:
        """Raises RequestError (422)."""
        raise _carries_only()

    async def obtain(self, *_: object) -> Asset:
        """Raises RequestError (422)."""
        raise _carries_only()

    def release(self, *_: object) -> None:
        """Nothing was obtained."""

    def statistics(self) -> dict[str, Any]:
        """Nothing was made."""
        return {"materialisations": 0, "bytes_written": 0, "budget": {"reserved_bytes": 0}, "workers": {"states": {}}}


def _carries_only() -> RequestError:
    return unsupported("this sidecar only carries features: it was started with --carry-only", "media")
