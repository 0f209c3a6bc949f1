"""In an engine core: ends the leases of requests that no worker will ever see.

A request may be aborted while it waits, or be refused. The engine core then drops it, and nothing else reports it. So
each request has a finalizer that ends its leases, until it is scheduled for the first time.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from mmplane.embed.errors import SidecarError
from mmplane.embed.janitor import Janitor
from mmplane.engines.vllm.held import received

_UNSENT = "mmplane_unsent"


class Waiting:
    """Requests that no worker has seen. It attaches with the first lease, when the sidecar is running."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._janitor: Janitor | None = None

    def take(self, build: Callable[[Any], tuple[Any, int]], message: Any) -> tuple[Any, int]:
        """Build the request of a message; its leases end with it, or at once if it cannot be built."""
        leased = received(message.mm_features)
        janitor = self._attached() if leased else None
        try:
            request, wave = build(message)
        except BaseException:
            if janitor is not None:
                janitor.revoke(*leased)
            raise
        if janitor is not None:
            unsent = weakref.finalize(request, janitor.revoke, *leased)
            unsent.atexit = False
            setattr(request, _UNSENT, unsent)
        return request, wave

    def _attached(self) -> Janitor | None:
        """Return None if the sidecar is gone, because then there is no lease to end."""
        if self._janitor is None:
            try:
                self._janitor = Janitor(self._path)
            except SidecarError:
                return None
        return self._janitor


def scheduled(request: Any) -> None:
    """Workers get this request: from now on they end its leases."""
    unsent = getattr(request, _UNSENT, None)
    if unsent is not None:
        unsent.detach()
