"""Leases of one array, taken before its messages are sent: the event loop never waits for the sidecar."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress

from mmplane.embed.errors import SidecarError
from mmplane.embed.records import Leased


class Leases:
    """One for each message to come. What has not been taken when this object goes is given back by `revoke`.

    SGLang's copies of an item for several samples share it.
    """

    def __init__(self, leased: list[Leased], revoke: Callable[..., object]) -> None:
        self._left = leased
        weakref.finalize(self, _give_back, leased, revoke).atexit = False

    def take(self) -> Leased:
        """For one message. Raises LookupError when there are more messages than were expected."""
        if not self._left:
            raise LookupError("a request is sent more often than its number of samples says")
        return self._left.pop()


def _give_back(left: list[Leased], revoke: Callable[..., object]) -> None:
    if left:
        with suppress(SidecarError):  # in a forked process there is nothing to give back
            revoke(*left)
