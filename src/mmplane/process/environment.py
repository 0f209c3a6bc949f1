"""Variables that hold secrets: read once, and then neither inherited nor to be seen in /proc."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None)
_libc.getenv.restype = ctypes.c_void_p
_libc.getenv.argtypes = [ctypes.c_char_p]


def take(name: str) -> bytearray | None:
    """The variable's value, of which no other copy stays in memory; the caller's to `wipe`.

    Call it before processes are started.
    """
    value = os.environb.get(name.encode())
    if value is None:
        return None
    taken = bytearray(value)
    address = _libc.getenv(name.encode())
    if address:  # where the kernel put it
        ctypes.memset(address, 0, len(value))
    del os.environ[name]
    if len(value) > 1:  # Python's own copy, on whose bytes CPython gives no other way to write; shorter ones are shared
        ctypes.memset(id(value) + bytes.__basicsize__ - 1, 0, len(value))
    return taken


def wipe(secret: bytearray | memoryview) -> None:
    """Overwrite it where it lies."""
    secret[:] = bytes(len(secret))
