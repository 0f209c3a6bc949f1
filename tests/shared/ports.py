"""A port for a server that takes a while to bind it, and cannot be given a socket."""

from __future__ import annotations

import random
import socket
from contextlib import suppress


def unused_port() -> int:
    """One on 127.0.0.1 that no connection will get meanwhile, because the kernel gives them higher ones."""
    while True:
        with suppress(OSError), socket.create_server(("127.0.0.1", random.randrange(20_000, 30_000))) as unused:
            port: int = unused.getsockname()[1]
            return port
