"""How ranks find each other: on one machine through a file without a name, on several through a store on a socket.

Neither gloo nor the store authenticates anybody, so over machines the network must be private (docs/security.md).
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import torch.distributed as dist

from mmplane.core.control import Meeting
from mmplane.process.handed import handed
from mmplane.wire.private import check_private

_SIOCGIFADDR = 0x8915
_REQUEST = struct.Struct("256s")


@dataclass(frozen=True)
class Place:
    """Where one rank is: its number on its machine, and how many there are. `store` is where all ranks meet."""

    local: int
    ranks_here: int
    store: int
    meeting: Meeting | None = None

    @classmethod
    def of(cls, rank: int, size: int, descriptors: dict[str, int]) -> Place:
        """From what the supervisor has handed over."""
        store = descriptors.get("store", -1)
        if "meeting" not in descriptors:
            return cls(rank, size, store)
        meeting = msgspec.msgpack.decode(handed(descriptors["meeting"]), type=Meeting)
        return cls(rank - meeting.first, meeting.ranks, store, meeting)

    def join(self, rank: int, size: int, limit: timedelta) -> Any:
        """Return the store. Over machines, gloo and NCCL use the interface with this machine's address."""
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(self.local), "WORLD_SIZE": str(size)}
        if self.meeting is None:  # nothing listens, and nothing is left behind
            return dist.FileStore(f"/proc/self/fd/{self.store}", size)  # type: ignore[attr-defined]
        check_private(self.meeting.host)
        interface = interface_of(self.meeting.address)
        os.environ |= {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface}
        leads: dict[str, Any] = {"is_master": True, "master_listen_fd": self.store} if rank == 0 else {}
        return dist.TCPStore(  # type: ignore[attr-defined]
            self.meeting.host, self.meeting.port, size, timeout=limit, wait_for_workers=False, **leads
        )


def interface_of(address: str) -> str:
    """The name of the interface that has this address. Raises ValueError if there is none."""
    wanted = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    for _, name in socket.if_nameindex():
        if wanted in _addresses(name):
            return name
    raise ValueError(f"no interface of this machine has the address {address}")


def _addresses(interface: str) -> list[bytes]:
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        try:
            answer = fcntl.ioctl(end.fileno(), _SIOCGIFADDR, _REQUEST.pack(interface.encode()))
            found.append(answer[20:24])
        except OSError:  # it has none
            pass
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as file:
            fields = [line.split() for line in file]
        found += [bytes.fromhex(each[0]) for each in fields if each[-1] == interface]
    except OSError:  # this kernel has no IPv6
        pass
    return found
