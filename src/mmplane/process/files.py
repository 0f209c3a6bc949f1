"""Reads files that the operator names. Errors name the flag, and never show contents."""

from __future__ import annotations

import os

BYTES_MAX = 1024 * 1024
"""The authorities of a whole system need a quarter of this."""


def read_file(flag: str, path: str, *, private: bool) -> bytes:
    """Read a file, up to a limit. Raises ValueError.

    Only its owner may be able to read a `private` one. If it belongs to another user, its group may read it, because
    Kubernetes gives secrets to pods in this way.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(BYTES_MAX)
    except OSError as error:
        raise ValueError(f"{flag}: {path} cannot be read ({error.strerror})") from None
    if private and status.st_mode & (0o077 if status.st_uid == os.geteuid() else 0o037):
        raise ValueError(f"{flag}: others can read {path}: chmod 600 {path}")
    return content
