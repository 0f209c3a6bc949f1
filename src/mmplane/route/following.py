"""Follows a name: the addresses that DNS has for it are replicas, which come and go at run time.

Each replica's place on the ring is derived from its address, so the others keep their pictures, and several routers
agree. If the name cannot be resolved, nothing changes: replicas that do not answer are down anyway.
"""

from __future__ import annotations

import logging
import socket
import threading

from mmplane.route.control import MAINTENANCE, Control
from mmplane.route.replica import Replica

log = logging.getLogger("mmplane")

POLL_S = 2.0


class Following:
    """Adds the addresses of `service` to a running router, and removes those that it has added itself."""

    def __init__(self, control: Control, service: Replica) -> None:
        self._control = control
        self._service = service
        self._added: set[Replica] = set()
        self._failure = ""

    def follow(self, ending: threading.Event) -> None:
        """Look at the name every POLL_S until `ending` is set."""
        while True:
            self.look()
            if ending.wait(POLL_S):
                return

    def look(self) -> None:
        """Look once. A failure is logged when it begins and when it ends."""
        try:
            self._replace(addresses(self._service))
        except (OSError, ValueError) as error:
            failure = f"replicas of {self._service.host} stay as they are: {getattr(error, 'strerror', None) or error}"
            if failure != self._failure:
                log.warning("%s", failure)
            self._failure = failure
        else:
            if self._failure:
                log.info("replicas of %s are followed again", self._service.host)
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
