"""The key of a server and its media machines, and the port on which they join."""

from __future__ import annotations

import os
import stat
from typing import Any

from mmplane.commands.starting import listen
from mmplane.machines.greeting import key_of
from mmplane.supervise import Cluster

JOIN_MAX = 4
"""Media machines that may join, unless the operator says otherwise."""
KEY_BYTES_MIN, KEY_BYTES_MAX = 32, 4096
MAKE_ONE = "head -c 32 /dev/urandom | base64 > FILE; chmod 600 FILE"


def read_cluster_key(path: str) -> bytes:
    """The key of a file that only its owner can read. Raises ValueError with what to change."""
    if not path:
        raise ValueError(f"media machines need --cluster-key-file, the same file on all machines: {MAKE_ONE}")
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.read(KEY_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"--cluster-key-file: {path} cannot be read ({error.strerror})") from None
    if stat.S_IMODE(mode) & 0o077:
        raise ValueError(f"--cluster-key-file: others can read {path}: chmod 600 {path}")
    if not KEY_BYTES_MIN <= len(secret.strip()) <= KEY_BYTES_MAX:
        raise ValueError(
            f"--cluster-key-file: {path} must hold from {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes: {MAKE_ONE}"
        )
    return key_of(secret.strip())


def cluster_of(given: dict[str, Any]) -> Cluster | None:
    """Where media machines join, if they may. Raises ValueError for flags that have no effect, or cannot be."""
    if given["join_port"] is None:
        if given["cluster_key_file"]:
            raise ValueError("--cluster-key-file needs --join-port")
        return None
    key = read_cluster_key(given["cluster_key_file"])
    return Cluster(key, listen(given["join_host"], given["join_port"], flags="--join-port or --join-host"))
