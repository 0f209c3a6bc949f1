"""A third party at a sidecar, neither producer nor rank: it ends leases of messages that never reached a rank."""

from __future__ import annotations

import os
from collections.abc import Iterable

from mmplane.embed.attachment import Attachment
from mmplane.embed.records import Leased
from mmplane.sidecar.records import CLAIMS_MAX, VERSION, Hello, Revoke


class Janitor:
    """Attached at this socket. Raises Lost and NotAttached, like a client."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._attachment = Attachment(path, Hello(VERSION, "janitor"))

    def revoke(self, *leased: Leased) -> None:
        """No rank will open these records. May be called from a finalizer; it does not wait."""
        revoke(self._attachment, leased)

    def close(self) -> None:
        """Detach."""
        self._attachment.close()


def revoke(attachment: Attachment, leased: Iterable[Leased]) -> None:
    """End the leases of these records, if they are of the present plane. Does not wait."""
    plane = attachment.plane
    numbers = tuple(each.lease for each in leased if each.plane == plane.windows.plane)
    for start in range(0, len(numbers), CLAIMS_MAX):
        attachment.tell(plane, Revoke(numbers[start : start + CLAIMS_MAX]))
