"""The uuids that clients give their media, so that they can send a repeat without its bytes.

A uuid leads only to the digest of the bytes that were last sent under it. It never stands for content that the client
did not send, and bytes in a request always take precedence. Each tenant has its own uuids.
"""

from __future__ import annotations

from collections import OrderedDict

from mmplane.core.errors import not_held
from mmplane.core.records import Modality

UUIDS_MAX = 65_536


class Uuids:
    """A bounded table. If it is full, the tenant with the most names loses the one that it used longest ago."""

    def __init__(self, uuids_max: int = UUIDS_MAX) -> None:
        self._names_max = uuids_max
        self._digests: dict[str, OrderedDict[tuple[Modality, str], bytes]] = {}  # by tenant
        self._count = 0

    def remember(self, name: str, modality: Modality, digest: bytes, *, tenant: str = "") -> None:
        """Record that these bytes were sent under this name."""
        mine = self._digests.setdefault(tenant, OrderedDict())
        self._count += (modality, name) not in mine
        mine[modality, name] = digest
        mine.move_to_end((modality, name))
        if self._count > self._names_max:
            most = max(self._digests.values(), key=len)
            most.popitem(last=False)
            self._count -= 1

    def digest(self, name: str, modality: Modality, *, tenant: str = "") -> bytes:
        """Return the digest of what was last sent under this name. Raises RequestError (404)."""
        mine = self._digests.get(tenant)
        if mine is None or (modality, name) not in mine:
            raise not_held()
        mine.move_to_end((modality, name))
        return mine[modality, name]

    def statistics(self) -> dict[str, int]:
        """Number of known names."""
        return {"names": self._count}
