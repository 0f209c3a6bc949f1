"""The producer of a server whose ranks are on several machines: a plane in this process, mirrored on the others.

For a plugin it is both the sidecar of that server and its client, because a sidecar's memory has no mirrors.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from threading import Lock
from typing import Any

import msgspec

from mmplane.arena.arrays import dtype_name
from mmplane.arena.errors import ArenaFull
from mmplane.embed.address import Address, discard
from mmplane.embed.errors import Full, Lost, NotAttached, SidecarError, TooLarge
from mmplane.embed.hold import Hold
from mmplane.embed.plane import NotJoined, NotMirrored, Plane, TooManyLeases
from mmplane.embed.records import Leased
from mmplane.engines.kit.board import Board
from mmplane.mirrors.producer import Mirrors

THERE_SECONDS = 10.0
"""How long an item may take until all machines have it."""

_producers: dict[str, Producer] = {}
"""By the path of the board: an engine may start several servers in one process."""


class Late(SidecarError):
    """Another machine did not get the item in time: the same call may succeed later."""


class Producer:
    """Mirrors join at `listener` from `begin` on; until then they wait. Raises ValueError, OutOfMemory, OSError."""

    def __init__(self, listener: socket.socket, key: bytes, *, groups: tuple[int, ...], arena_bytes: int) -> None:
        self._listener, self._key = listener, key
        self._address = Address.create(arena_bytes, groups)
        self._plane = Plane(self._address)
        self._mirrors: Mirrors | None = None
        self._lock = Lock()
        self._is_stopped = False
        self.board = Board()
        self.board.show(self._address)
        _producers[self.board.path] = self

    @classmethod
    def at(cls, board: str) -> Producer:
        """The producer of this process that shows its address there. Raises NotAttached."""
        if board not in _producers:
            raise NotAttached("this process does not produce for that server")
        return _producers[board]

    def begin(self) -> None:
        """Accept mirrors. May be called again."""
        with self._lock:
            if self._mirrors is None and not self._is_stopped:
                self._mirrors = Mirrors(self._plane, self._listener, self._key)

    def put(self, key: bytes, arrays: Mapping[str, Any]) -> Put:
        """Put features by name, as `mmplane.embed.client.Client.put`. Raises Full, TooLarge, Lost."""
        if self._is_stopped:
            raise Lost("the server has been stopped")
        if (held := self._plane.get(key)) is not None:
            return Put(self._plane, held, hit=True)
        try:
            draft = self._plane.draft([(name, dtype_name(one), tuple(one.shape)) for name, one in arrays.items()])
        except ArenaFull as full:
            raise (TooLarge if full.ever else Full)(str(full)) from None
        draft.fill_all(arrays)
        return Put(self._plane, draft.publish(key), hit=False)

    def revoke(self, *leased: Leased) -> None:
        """These records were never sent and never will be. May be called from a finalizer."""
        for each in leased:
            self._plane.revoke(each)

    def statistics(self) -> dict[str, Any]:
        """The plane's figures, with the names of a sidecar's."""
        figures = self._plane.statistics()
        return figures | {"arena": msgspec.to_builtins(figures["arena"]), "holds": 0}

    def stop(self) -> None:
        """End all mirrors. May be called again."""
        with self._lock:
            if self._is_stopped:
                return
            self._is_stopped = True
            if self._mirrors is None:
                self._listener.close()
            else:
                self._mirrors.close()
            del _producers[self.board.path]
            self.board.clear()
            discard(self._address)


class Put:
    """An item that is held and sent to every machine. `hit`: its features were in the plane already."""

    def __init__(self, plane: Plane, hold: Hold, *, hit: bool) -> None:
        self._plane = plane
        self._hold = hold
        self.hit = hit

    def lease(self) -> Leased:
        """Lease it for one message, once all machines have it. Raises Full, Lost, and Late if one does not get it."""
        try:
            if not self._plane.wait(self._hold, limit_s=THERE_SECONDS):
                raise Late(f"a machine did not get it within {THERE_SECONDS:g} s")
            return self._hold.lease()
        except NotJoined as error:
            raise Lost(str(error)) from None
        except NotMirrored as error:
            raise Late(str(error)) from None
        except TooManyLeases as error:
            raise Full(str(error)) from None
