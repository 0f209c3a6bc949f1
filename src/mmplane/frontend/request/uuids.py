"""The uuids that clients give their media, so that a repeat can be sent without its bytes.

A uuid leads to the digest of the bytes that were last sent under it, and to nothing else. It never stands for content
that the client did not send, and bytes that are sent always win. Each tenant has its own uuids.
"""

from __future__ import annotations

from collections import OrderedDict

from mmplane.core.errors import not_held
from mmplane.core.records import Modality

UUIDS_MAX = 65_536


class Uuids:
    """A bounded table; the name that was used longest ago goes first."""

    def __init__(self, uuids_max: int = UUIDS_MAX) -> None:
        self._names_max = uuids_max
        self._digests: OrderedDict[tuple[str, Modality, str], bytes] = OrderedDict()

    def remember(self, name: str, modality: Modality, digest: bytes, *, tenant: str = "") -> None:
        """These bytes were sent under this name."""
        entry = (tenant, modality, name)
        self._digests[entry] = digest
        self._digests.move_to_end(entry)
        while len(self._digests) > self._names_max:
            self._digests.popitem(last=False)

    def digest(self, name: str, modality: Modality, *, tenant: str = "") -> bytes:
        """The digest of what was last sent under this name. Raises RequestError (404)."""
        digest = self._digests.get((tenant, modality, name))
        if digest is None:
            raise not_held()
        self._digests.move_to_end((tenant, modality, name))
        return digest

    def statistics(self) -> dict[str, int]:
        """How many names are known."""
        return {"names": len(self._digests)}
