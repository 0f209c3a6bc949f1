"""The descriptors that each process is given: regions of the arena, sockets to listen on, and secrets.

Each method returns the descriptors of one role by name, as `mmplane.process.child` hands them to its main. They stay
the supervisor's: a child gets copies.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

import msgspec

from mmplane.arena.label import create_labelled, new_plane
from mmplane.arena.segment import check_memory, reopen_read_only
from mmplane.config import Config
from mmplane.core.keyring import Keyring
from mmplane.process.handed import hand_over
from mmplane.render.tally import create_tally

Descriptors = dict[str, int]


@dataclass(frozen=True)
class Cluster:
    """What a server and its media machines share: the key, and on the server the socket where machines join.

    `certificate` is the content of a PEM file with the certificate and its private key, if the server speaks TLS. `ray`
    is the HOST:PORT of a Ray cluster on whose machines media machines run, if the server looks after them.
    """

    key: bytes
    listener: socket.socket | None = None
    certificate: bytes = b""
    ray: str = ""


class Wiring:
    """Everything that a supervisor hands to its children."""

    def __init__(
        self,
        config: Config,
        keyring: Keyring,
        listener: socket.socket | None,
        *,
        http: socket.socket | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        """`http` is the socket of render processes, if there are any. A media machine has no `listener`.

        Raises ValueError or OutOfMemory if the machine has no room for the arena.
        """
        check_memory(sum(config.region_bytes()))
        self._config = config
        self._listener = listener
        self._http = http
        self._cluster = cluster
        self._keyring = hand_over("mmplane-keyring", msgspec.msgpack.encode(keyring))
        secrets = cluster.key + cluster.certificate if cluster else None  # the key has a fixed length
        self._cluster_secrets = hand_over("mmplane-cluster-secrets", secrets) if secrets else None
        self._tally = create_tally(config.render_processes) if config.render_processes else None
        self._regions: list[int] = []
        self._regions_read_only: list[int] = []
        self.renew_regions()

    def renew_regions(self) -> None:
        """Make the regions of a new plane. The memory of the last plane lives as long as somebody maps it."""
        self._close_regions()
        plane = new_plane()
        for number, length_bytes in enumerate(self._config.region_bytes()):
            self._regions.append(create_labelled(f"mmplane-{number}", length_bytes, plane, number))
            self._regions_read_only.append(reopen_read_only(self._regions[number]))

    def frontend(self) -> Descriptors:
        """It writes the media into region 0."""
        assert self._listener is not None
        return {"keyring": self._keyring, "listener": self._listener.fileno(), "region0": self._regions[0]}

    def keeper(self) -> Descriptors:
        """It hands the regions to the processes that attach."""
        return self.frontend() | _numbered(self._regions)

    def outpost(self) -> Descriptors:
        """It reads what the workers wrote, and sends it to the server."""
        assert self._cluster_secrets is not None
        return {"keyring": self._keyring, "cluster_secrets": self._cluster_secrets} | _numbered(self._regions)

    def parser(self) -> Descriptors:
        """It writes decoded media into region 0."""
        return {"region0": self._regions[0]}

    def stand_in(self, bulk: socket.socket) -> Descriptors:
        """It sends what is in the regions to the machine that joins at the listener and then at `bulk`."""
        return self._joining() | _numbered(self._regions_read_only) | {"bulk": bulk.fileno()}

    def node(self) -> Descriptors:
        """It writes what the server sends."""
        assert self._cluster_secrets is not None
        return {"cluster_secrets": self._cluster_secrets} | _numbered(self._regions)

    def worker(self, index: int) -> Descriptors:
        """It reads region 0 and writes features into its own region, `index`."""
        return {"media": self._regions_read_only[0], "features": self._regions[index]}

    def porter(self, index: int) -> Descriptors:
        """A worker whose work is done on the machine that joins at the listener."""
        return self.worker(index) | self._joining()

    def render(self) -> Descriptors:
        """It answers at the HTTP socket and counts its answers in its row of the tally."""
        assert self._http is not None
        assert self._tally is not None
        return {"listener": self._http.fileno(), "keyring": self._keyring, "tally": self._tally}

    def rank(self) -> Descriptors:
        """It reads all regions."""
        return _numbered(self._regions_read_only)

    def listen(self) -> socket.socket:
        """Another socket at the address where machines join, with any port. The caller closes it. Raises OSError."""
        assert self._cluster is not None
        assert self._cluster.listener is not None
        host = self._cluster.listener.getsockname()[0]
        return socket.create_server((host, 0), family=self._cluster.listener.family)

    def _joining(self) -> Descriptors:
        assert self._cluster is not None
        assert self._cluster.listener is not None
        assert self._cluster_secrets is not None
        return {"listener": self._cluster.listener.fileno(), "cluster_secrets": self._cluster_secrets}

    def close(self) -> None:
        """Close what this object opened; the sockets belong to whoever opened them."""
        self._close_regions()
        for descriptor in (self._keyring, self._cluster_secrets, self._tally):
            if descriptor is not None:
                os.close(descriptor)

    def _close_regions(self) -> None:
        for regions in (self._regions, self._regions_read_only):
            while regions:
                os.close(regions.pop())


def _numbered(regions: list[int]) -> Descriptors:
    return {f"region{number}": region for number, region in enumerate(regions)}
