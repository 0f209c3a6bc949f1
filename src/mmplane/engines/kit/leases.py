"""Leases of one array, taken before its messages are sent, so that the event loop never waits for the sidecar."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress

from mmplane.embed.errors import SidecarError
from mmplane.embed.records import Leased


class Leases:
    """One lease for each expected message. Leases that are left when this object goes are returned with `revoke`.

    SGLang's copies of an item for several samples share it.
    """

    def __init__(self, leased: list[Leased], revoke: Callable[..., object]) -> None:
        self._left = leased
        weakref.finalize(self, _give_back, leased, revoke).atexit = False

    def take(self) -> Leased:
        """Take one lease. Raises LookupError if there are more messages than expected."""
        if not self._left:
            raise LookupError("a request is sent more often than its number of samples says")
        return self._left.pop()


def _give_back(left: list[Leased], revoke: Callable[..., object]) -> None:
    if left:
        with suppress(SidecarError):  # a forked process has nothing to return
            revoke(*left)
