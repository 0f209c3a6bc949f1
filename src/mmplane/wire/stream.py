"""A one-way stream of parcels: a UNIX stream socket with frames of a header and bytes.

Control messages are small and use `Link`. Large inline bytes (of the baselines) go through here, so that neither delays
the other. It blocks, so use it in a separate thread.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from mmplane.wire.link import PeerGone, PeerStalled, ProtocolError

HEADER = struct.Struct("<QQ?")
"""Request id, length in bytes, whether the receiver forwards the frame."""

Accept = Callable[[int, bool, bytearray], None]


def stream_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, blocking."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def header(request_id: int, length_bytes: int, *, relayed: bool) -> bytes:
    """The header of a frame."""
    return HEADER.pack(request_id, length_bytes, relayed)


def send_frame(stream: socket.socket, request_id: int, content: bytearray | memoryview, *, limit_s: float) -> None:
    """Send one frame that is not forwarded. Raises PeerGone, PeerStalled."""
    stream.settimeout(limit_s)
    try:
        stream.sendall(header(request_id, len(content), relayed=False))
        stream.sendall(content)
    except TimeoutError as error:
        raise PeerStalled from error
    except OSError as error:
        raise PeerGone from error


def receive_frames(stream: socket.socket, accept: Accept, *, frame_bytes_max: int) -> None:
    """Pass every frame to `accept` until the stream ends. An incomplete frame at the end is dropped.

    Raises ProtocolError for a frame longer than `frame_bytes_max`.
    """
    start = bytearray(HEADER.size)
    while _fill(stream, start):
        request_id, length_bytes, relayed = HEADER.unpack(start)
        if length_bytes > frame_bytes_max:
            raise ProtocolError(f"a frame of {length_bytes} bytes")
        content = bytearray(length_bytes)
        if not _fill(stream, content):
            return
        accept(request_id, relayed, content)


def _fill(stream: socket.socket, room: bytearray) -> bool:
    view = memoryview(room)
    while view:
        try:
            count = stream.recv_into(view)
        except OSError:
            return False
        if count == 0:
            return False
        view = view[count:]
    return True
