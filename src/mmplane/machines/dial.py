"""A media machine's connection to its server: connect, prove the key, send a request. All calls block, with a limit."""

from __future__ import annotations

import os
import socket
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from mmplane.core.records import Record
from mmplane.machines.channel import SILENCE_SECONDS
from mmplane.machines.greeting import GREETING_BYTES_MAX, Greeting, Refusal, Side, State, ToMachine
from mmplane.machines.pin import check, machine_context
from mmplane.machines.records import SECRET_BYTES, Assignment, Files, FromServer, Hello, Refused, Welcome
from mmplane.wire.framed import End, Framed
from mmplane.wire.link import LinkError, PeerGone
from mmplane.wire.sealed import Sealed

CONNECT_SECONDS = 5.0
GREETING_SECONDS = 8.0
"""A server that has all its machines takes a moment to answer."""
LOADING_SECONDS = 120.0


@dataclass(frozen=True)
class Server:
    """The server's address and key, and the `pin` of its certificate; without a pin TLS is not used."""

    address: tuple[str, int]
    key: bytes
    pin: str = ""


def fetch(server: Server, name: str) -> tuple[Assignment, Files]:
    """Fetch what to load. Raises Refusal, LinkError, OSError."""
    with closing(dialled(server, Hello(name, "assignment"), seconds=LOADING_SECONDS)) as end:
        stream: Framed[Any] = Framed(
            end, FromServer, silence_s=GREETING_SECONDS, until_s=time.monotonic() + LOADING_SECONDS
        )
        assignment = expected(stream, Assignment)
        files = {}
        for each, length_bytes in assignment.files:
            content = bytearray(length_bytes)
            stream.receive_into(memoryview(content))
            files[each] = bytes(content)
        return assignment, files


def join(server: Server, hello: Hello) -> Framed[Any]:
    """Open a stream for jobs. Raises Refusal, LinkError, OSError."""
    end = dialled(server, hello, seconds=GREETING_SECONDS)
    try:
        stream: Framed[Any] = Framed(end, FromServer, silence_s=GREETING_SECONDS)
        expected(stream, Welcome)
        return Framed(end, FromServer, silence_s=SILENCE_SECONDS)
    except BaseException:
        end.close()
        raise


def dialled(server: Server, hello: Record, *, seconds: float) -> End:
    """Connect, prove the key within `seconds`, and send `hello`. Raises Refusal, LinkError, OSError."""
    connected = socket.create_connection(server.address, timeout=CONNECT_SECONDS)
    end: End = connected
    try:
        until_s = time.monotonic() + seconds
        if server.pin:
            end = Sealed.shake(
                connected, machine_context(), server_side=False, until_s=time.monotonic() + GREETING_SECONDS
            )
            check(end.certificate, server.pin)
        stream: Framed[Any] = Framed(
            end, ToMachine, silence_s=GREETING_SECONDS, record_bytes_max=GREETING_BYTES_MAX, until_s=until_s
        )
        greeting = Greeting(Side.MACHINE, server.key, os.urandom(SECRET_BYTES))
        while greeting.state is not State.OPEN:
            answer = greeting.hear(stream.receive())
            if answer is not None:
                stream.send(answer)
        stream.send(hello)
    except PeerGone as gone:
        end.close()
        hint = "" if server.pin else " (with --join-cert-file on the server, this machine needs --join-pin)"
        raise PeerGone(f"{gone}{hint}") from None
    except BaseException:
        end.close()
        raise
    return end


def expected(stream: Framed[Any], kind: type[Any]) -> Any:
    """Receive one record, of this kind. Raises Refusal, LinkError."""
    record = stream.receive()
    if isinstance(record, Refused):
        raise Refusal(f"the server refuses: {record.reason}", outdated=record.outdated)
    if not isinstance(record, kind):
        raise LinkError(f"{type(record).__name__} came instead of {kind.__name__}")
    return record
