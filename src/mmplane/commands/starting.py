"""What commands that start a supervisor do alike."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress

from mmplane.commands.options import RANGES
from mmplane.config import MIB
from mmplane.process.output import release

BACKLOG = 1024
"""Connections that wait to be accepted."""
WORKER_REGION_BYTES = 384 * MIB
"""What each worker's region should have at least: the features of the longest clips that checkpoints allow."""
EMBEDDINGS_BYTES = 512 * MIB
"""What each rank keeps of embeddings where there is memory: 8 KB to 32 KB a token, 250 to 1200 tokens a photograph."""
MEDIA = ("av", "numba", "setproctitle", "tokenizers")
"""Packages that workers run with."""
WORKERS_MAX = int(RANGES["workers"].most)


def workers_for(cores: int, arena_bytes: int, *, cores_each: int = 2) -> int:
    """How many workers: one for `cores_each` cores, as long as the arena has room for their regions, and at least two.

    The second is there so that a clip does not hold up pictures.
    """
    return max(2, min(cores // cores_each, arena_bytes * 3 // 4 // WORKER_REGION_BYTES, WORKERS_MAX))


def arena_for(cores: int, memory_bytes: int) -> int:
    """Bytes of an arena where nothing but workers computes: a region for each core, in at most half of the memory."""
    return min(min(cores, WORKERS_MAX) * WORKER_REGION_BYTES * 4 // 3, memory_bytes // 2)


def embeddings_for(memory_bytes: int, tp: int) -> int:
    """Bytes of embeddings that each rank keeps: all ranks together an eighth of the available memory at most."""
    return min(EMBEDDINGS_BYTES, memory_bytes // 8 // tp)


def release_output() -> None:
    """A reader of our output that stops reading does not stop us."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            release(stream.fileno())


def lacking(command: str, package: str, extra: str) -> str:
    """What to install for a command that needs a package."""
    return f"`mmplane {command}` needs {package}: pip install 'mmplane[{extra}]'"


def refuse(error: Exception) -> int:
    """Say why the command cannot start; its exit code."""
    print(f"mmplane: {error}", file=sys.stderr)
    return 2


def listen(host: str, port: int, *, flags: str = "--port or --host") -> socket.socket:
    """A socket that accepts there. Raises ValueError for the operator, who can change it by these `flags`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        where = address(host, port)
        raise ValueError(f"cannot listen on {where} ({error.strerror}): choose another {flags}") from None
    listener.listen(BACKLOG)
    return listener


def address(host: str, port: int) -> str:
    """Host and port as a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
