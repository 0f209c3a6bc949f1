"""A machine whose ranks read a mirror: its launcher runs the mirror, in threads, and nothing else meanwhile."""

from __future__ import annotations

import logging
from threading import Event, Thread

from mmplane.arena.errors import OutOfMemory
from mmplane.engines.kit.board import Board
from mmplane.machines.dial import Server
from mmplane.machines.greeting import Refusal
from mmplane.mirrors.mirror import Mirror
from mmplane.wire.link import LinkError

log = logging.getLogger("mmplane")

RETRY_S = 1.0


class Mirrored:
    """Joins the producer at `server` as soon as it listens, and shows the mirror's address on `board`.

    It tries as long as the launcher lives, because the engine itself waits for the first machine. A mirror that has
    been lost is not replaced: its ranks may still read it.
    """

    def __init__(self, server: Server) -> None:
        self.board = Board()
        self._server = server
        self._mirror: Mirror | None = None
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="mmplane: mirror", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the mirror. May be called again."""
        self._stopped.set()
        if self._mirror is not None:
            self._mirror.end()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._mirror = self._joined()
        except (Refusal, ValueError, OutOfMemory) as error:
            log.warning("mmplane: off: no mirror on this machine: %s", error)
        if self._mirror is None:
            return
        self.board.show(self._mirror.address)
        log.info("mmplane: on: a mirror of %d MiB on this machine", self._mirror.address.length_bytes >> 20)
        if self._stopped.is_set():
            self._mirror.end()
        why = self._mirror.run()
        self.board.clear()
        if not self._stopped.is_set():
            log.warning("mmplane: the mirror on this machine has ended: %s", why)

    def _joined(self) -> Mirror | None:
        """Raises Refusal, ValueError, OutOfMemory."""
        host, port = self._server.address
        log.info("mmplane: a mirror on this machine will join the first one at %s:%d", host, port)
        while not self._stopped.is_set():
            try:
                return Mirror(self._server)
            except (LinkError, OSError):
                self._stopped.wait(RETRY_S)
        return None
