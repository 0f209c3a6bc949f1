"""A board shows the address of a plane to a launcher's children, which start before the address is known.

On a machine with a mirror it is known when the mirror has joined. The board is a memfd, which has no name and ends with
the launcher.
"""

from __future__ import annotations

import os
from pathlib import Path

from mmplane.embed.address import Address
from mmplane.embed.errors import Lost


class Board:
    """A board of this process, empty at first. Other processes of this user `read` it by its `path`."""

    def __init__(self) -> None:
        self._fd = os.memfd_create("mmplane-board", os.MFD_CLOEXEC)
        self.path = f"/proc/{os.getpid()}/fd/{self._fd}"

    def show(self, address: Address) -> None:
        """Show this address from now on."""
        os.pwrite(self._fd, address.text().encode(), 0)

    def clear(self) -> None:
        """Show nothing."""
        os.ftruncate(self._fd, 0)


def read(path: str) -> Address:
    """The address on the board at this path. Raises Lost if it shows none, OSError if it is gone."""
    try:
        return Address.parse(Path(path).read_text())
    except ValueError:
        raise Lost("the mirror on this machine has not joined, or has ended") from None
