"""A plane over two machines in networks of their own: the producer is this process, mirrors and ranks are processes."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from machines import SERVER, Network

from embed_rig import MIB, Floats, Remote, key
from mmplane import Address, Leased, Plane
from mmplane.embed.address import discard
from mmplane.mirrors.producer import Mirrors
from polling import until

KEY = bytes(range(32))
HANG_S = 120.0


class Mirror:
    """A mirror in the network of the other machine."""

    def __init__(self, network: Network, port: int, secret: bytes = KEY) -> None:
        program = str(Path(__file__).with_name("mirror_process.py"))
        command = [sys.executable, program, SERVER, str(port), secret.hex()]
        with network.inside(1):
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()

    @property
    def address(self) -> Address:
        return Address.parse(self.said)

    def rest(self) -> str:
        """What it says until it has ended.

        `Popen.communicate` reads past this object's buffer: what came together with the first line would be lost.
        """
        assert self.process.stdout is not None
        with self.process.stdout as output:
            rest = output.read()
        self.process.wait(HANG_S)
        return rest

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Away:
    """A plane on machine 0, whose first rank is there; the others are on machine 1."""

    def __init__(self, network: Network, groups: tuple[int, ...], stack: ExitStack) -> None:
        self._network = network
        self._stack = stack
        self.address = Address.create(48 * MIB, groups)
        stack.callback(discard, self.address)
        self.plane = Plane(self.address)
        with network.inside(0):
            listener = socket.create_server((SERVER, 0))
        self.port: int = listener.getsockname()[1]
        self.mirrors = Mirrors(self.plane, listener, KEY)
        stack.callback(self.mirrors.close)

    def mirror(self) -> Mirror:
        mirror = Mirror(self._network, self.port)
        self._stack.callback(mirror.close)
        return mirror

    def rank(self, rank: int, mirror: Mirror | None = None) -> Remote:
        with self._network.inside(0 if mirror is None else 1):
            remote = Remote(self.address if mirror is None else mirror.address, rank)
        self._stack.callback(remote.kill)
        return remote

    def put(self, seed: int, features: Floats, group: int) -> Leased:
        hold = self.plane.put(key(seed), {"f": features})
        until(lambda: self.plane.is_ready(group), HANG_S, "all ranks of the group have joined")
        assert self.plane.wait(hold, group=group, limit_s=HANG_S)
        return hold.lease(group)

    def figure(self, name: str) -> int:
        figure: int = self.plane.statistics()[name]
        return figure


@contextmanager
def away(network: Network, *groups: int) -> Iterator[Away]:
    with ExitStack() as stack:
        made = Away(network, groups, stack)
        yield made
        made.plane.check_integrity()
