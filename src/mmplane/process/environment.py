"""Variables that hold secrets: read once, and then neither inherited nor to be seen in /proc."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None)
_libc.getenv.restype = ctypes.c_void_p
_libc.getenv.argtypes = [ctypes.c_char_p]


def take(name: str) -> str | None:
    """The variable's value, which is overwritten where the kernel put it. Call it before processes are started."""
    value = os.environb.get(name.encode())
    if value is None:
        return None
    address = _libc.getenv(name.encode())
    if address:
        ctypes.memset(address, 0, len(value))
    del os.environ[name]
    return value.decode(errors="replace")
