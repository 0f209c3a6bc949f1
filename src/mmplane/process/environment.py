"""Environment variables that hold secrets: read once, then removed, so that they are not inherited or seen in /proc."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None)
_libc.getenv.restype = ctypes.c_void_p
_libc.getenv.argtypes = [ctypes.c_char_p]


def take(name: str) -> bytearray | None:
    """Return the variable's value and remove it. No other copy stays in memory; the caller must `wipe` the result.

    Call it before other processes are started.
    """
    value = os.environb.get(name.encode())
    if value is None:
        return None
    taken = bytearray(value)
    address = _libc.getenv(name.encode())
    if address:  # where the kernel put it
        ctypes.memset(address, 0, len(value))
    del os.environ[name]
    if len(value) > 1:  # Python's own copy, which CPython gives no other way to overwrite; shorter ones are shared
        ctypes.memset(id(value) + bytes.__basicsize__ - 1, 0, len(value))
    return taken


def wipe(secret: bytearray | memoryview) -> None:
    """Overwrite the bytes in place."""
    secret[:] = bytes(len(secret))
