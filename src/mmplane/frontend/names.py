"""Names: what a client calls its media, so that a repeat can be sent without its bytes.

A name leads to the digest of the bytes that were last sent under it, and to nothing else: it never stands for content
that the client did not send, and bytes that are sent are always what counts. Names are a tenant's own.
"""

from __future__ import annotations

from collections import OrderedDict

from mmplane.core.errors import RequestError
from mmplane.core.records import Modality

NAMES_MAX = 65_536


class Names:
    """A bounded table; the name that was used longest ago goes first."""

    def __init__(self, names_max: int = NAMES_MAX) -> None:
        self._names_max = names_max
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


def not_held() -> RequestError:
    """404: there are no bytes, and what they became is not here. (409 would make OpenAI's client send it again.)"""
    return RequestError(404, "media_not_held", "this server does not hold media of that uuid: send it with its bytes")
