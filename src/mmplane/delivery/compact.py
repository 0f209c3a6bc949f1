"""Compresses with zstd if it pays: if sending the saved bytes would take longer than the compression.

The estimate uses a sample of the item and rates that were measured once, when the process started. Photographs hardly
shrink, and a UNIX socket carries gigabytes per second, so it only pays for drawings and screenshots.
"""

from __future__ import annotations

import socket
import time

import zstandard

LEVEL = 1
SAMPLE_BYTES = 64 * 1024
TRIAL_BYTES = 4 * 1024 * 1024
LENGTH_BYTES_MAX = 1 << 31


class Compactor:
    """Compresses an item or leaves it. `copies` is how often its bytes are sent: to the leader, and to followers."""

    def __init__(self, copies: int, *, send_s_per_byte: float | None = None) -> None:
        self._s_per_byte = copies * (socket_s_per_byte() if send_s_per_byte is None else send_s_per_byte)

    def pack(self, content: memoryview) -> bytes | None:
        """The compressed bytes, or None if sending the original is faster."""
        if len(content) <= SAMPLE_BYTES:
            return None
        packer = zstandard.ZstdCompressor(level=LEVEL)  # one for each item, because it is not thread-safe
        middle = len(content) // 2
        sample = content[middle : middle + SAMPLE_BYTES]
        started_s = time.perf_counter()
        packed_bytes = len(packer.compress(sample))
        sample_s = time.perf_counter() - started_s
        saved_bytes = len(sample) - packed_bytes
        if saved_bytes * self._s_per_byte <= sample_s:
            return None
        return packer.compress(content)


def unpack(content: memoryview) -> memoryview:
    """Decompress the output of `pack` into new writable memory. Raises ValueError if it is damaged."""
    try:
        size = zstandard.frame_content_size(content)
        if not 0 <= size <= LENGTH_BYTES_MAX:
            raise ValueError("packed features have no size")
        return memoryview(bytearray(zstandard.ZstdDecompressor().decompress(content, max_output_size=size)))
    except zstandard.ZstdError as error:
        raise ValueError("packed features are damaged") from error


def socket_s_per_byte() -> float:
    """The seconds per byte through a UNIX stream socket of this machine, sending and receiving in one thread."""
    ours, theirs = socket.socketpair()
    chunk, room = bytes(64 * 1024), bytearray(64 * 1024)
    with ours, theirs:
        started_s = time.perf_counter()
        for _ in range(TRIAL_BYTES // len(chunk)):
            ours.sendall(chunk)
            left = len(chunk)
            while left:
                left -= theirs.recv_into(room, left)
        return (time.perf_counter() - started_s) / TRIAL_BYTES
