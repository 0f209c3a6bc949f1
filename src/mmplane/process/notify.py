"""Notifies a service manager with `sd_notify`, as units of systemd with `Type=notify` require."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

READY = "READY=1"
STOPPING = "STOPPING=1"
VARIABLE = "NOTIFY_SOCKET"


def notify(state: str) -> None:
    """Send one state to the manager that started this process. Does nothing without one. Never waits."""
    name = os.environ.get(VARIABLE)
    if not name:
        return
    address = "\0" + name[1:] if name.startswith("@") else name
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(state.encode(), socket.MSG_DONTWAIT, address)
