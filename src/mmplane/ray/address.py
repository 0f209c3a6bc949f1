"""Where a cluster's GCS listens, and whether something does: asked before Ray is imported, which takes seconds."""

from __future__ import annotations

import re
import socket

REACH_LIMIT_S = 5.0


def host_and_port(address: str, flag: str = "--ray") -> tuple[str, int]:
    """HOST:PORT, taken apart. Raises ValueError, with the `flag` that gave it."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{flag}: {address!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def answers(address: str) -> str | None:
    """Why nothing listens there; None if something does. Raises ValueError for what is no address."""
    try:
        socket.create_connection(host_and_port(address), REACH_LIMIT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def refusal(address: str, said: str) -> str:
    """What an operator is told when Ray did not let us in, from what Ray `said`."""
    if re.search(r"auth|token", said, re.IGNORECASE):
        return (
            f"Ray at {address} wants its token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file with the "
            "token of the cluster"
        )
    return f"Ray at {address} does not let this machine in: {said.strip().partition(chr(10))[0]}"
