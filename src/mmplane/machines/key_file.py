"""The file with the key that machines share."""

from __future__ import annotations

from mmplane.machines.greeting import key_of
from mmplane.process.files import read_file

KEY_BYTES_MIN, KEY_BYTES_MAX = 32, 4096
MAKE_ONE = "head -c 32 /dev/urandom | base64 > FILE; chmod 600 FILE"


def read_key(named: str, path: str) -> bytes:
    """Read the key from a file that only its owner can read. `named` is the flag or variable with its path.

    Raises ValueError with what to change.
    """
    secret = read_file(named, path, private=True)
    if not KEY_BYTES_MIN <= len(secret.strip()) <= KEY_BYTES_MAX:
        raise ValueError(f"{named}: {path} must contain {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes: {MAKE_ONE}")
    return key_of(secret.strip())
