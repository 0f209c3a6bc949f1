"""Follows a source of replicas, which come and go at run time: the addresses of a name in DNS, or those that Ray runs.

Each replica's place on the ring is derived from its address, so the others keep their pictures, and several routers
agree. If the source does not know, nothing changes: replicas that do not answer are down anyway.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable

from mmplane.route.control import MAINTENANCE, Control
from mmplane.route.replica import Replica

log = logging.getLogger("mmplane")

POLL_S = 2.0


class Following:
    """Adds the replicas of a source to a running router, and removes those that it has added itself.

    `wanted` returns the replicas that there should be, None if it does not know, and may raise OSError and ValueError.
    `source` is its name for the log.
    """

    def __init__(self, control: Control, source: str, wanted: Callable[[], set[Replica] | None]) -> None:
        self._control = control
        self._source = source
        self._wanted = wanted
        self._added: set[Replica] = set()
        self._failure = ""

    def follow(self, ending: threading.Event) -> None:
        """Look at the source every POLL_S until `ending` is set."""
        while True:
            self.look()
            if ending.wait(POLL_S):
                return

    def look(self) -> None:
        """Look once. A failure is logged when it begins and when it ends."""
        try:
            if (wanted := self._wanted()) is not None:
                self._replace(wanted)
        except (OSError, ValueError) as error:
            failure = f"replicas of {self._source} stay as they are: {getattr(error, 'strerror', None) or error}"
            if failure != self._failure:
                log.warning("%s", failure)
            self._failure = failure
        else:
            if self._failure:
                log.info("replicas of %s are followed again", self._source)
            self._failure = ""

    def _replace(self, wanted: set[Replica]) -> None:
        states = {each.name: each.state for each in self._control.standings()}
        for replica in sorted(self._added - wanted):
            if replica.name not in states or not self._control.remove(replica, 0):
                self._added.discard(replica)  # otherwise requests are in flight, and it is removed later
        for replica in sorted(wanted):
            if states.get(replica.name, MAINTENANCE) == MAINTENANCE:
                self._control.add(replica)
                self._added.add(replica)


def addresses(service: Replica) -> set[Replica]:
    """One replica for each address, IPv4 if there are any, because both may be of one machine. Raises OSError."""
    found = socket.getaddrinfo(service.host, service.port, type=socket.SOCK_STREAM)
    families = {family for family, *_ in found}
    chosen = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
    return {Replica(str(address[0]), service.port, service.tls) for family, *_, address in found if family == chosen}
