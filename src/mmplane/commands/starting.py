"""Code that all commands share which start a supervisor."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress

from mmplane.commands.options import RANGES
from mmplane.config import BYTES_MAX, GIB, MIB
from mmplane.process.output import release

BACKLOG = 1024
"""Connections that wait to be accepted."""
WORKER_REGION_BYTES = 384 * MIB
"""The minimum size of each worker's region: the features of the longest clips that checkpoints allow."""
KV_BYTES = 1 * GIB
EMBEDDINGS_BYTES = 512 * MIB
"""The embeddings that each rank keeps if there is memory: 8 KB to 32 KB a token, 250 to 1200 tokens a photograph."""
MEDIA = ("av", "numba", "setproctitle", "tokenizers")
"""Packages that workers need."""
WORKERS_MAX = int(RANGES["workers"].most)


def workers_for(cores: int, arena_bytes: int, *, cores_each: int = 2) -> int:
    """The number of workers: one for `cores_each` cores, if the arena has room for their regions, and at least two.

    The second worker is there so that a clip does not delay pictures.
    """
    return max(2, min(cores // cores_each, arena_bytes * 3 // 4 // WORKER_REGION_BYTES, WORKERS_MAX))


def arena_for(cores: int, memory_bytes: int) -> int:
    """The size of an arena if only workers compute: one region for each core, in at most half of the memory."""
    return min(min(cores, WORKERS_MAX) * WORKER_REGION_BYTES * 4 // 3, memory_bytes // 2)


def kv_bytes_for(device: str, runner: str) -> int:
    """The limit of a rank's memory for keys and values: none on a GPU, where the rank finds out what is left."""
    return BYTES_MAX if device == "cuda" and runner == "hf" else KV_BYTES


def embeddings_for(memory_bytes: int, tp: int) -> int:
    """The size of embeddings that each rank keeps: all ranks together at most an eighth of the available memory."""
    return min(EMBEDDINGS_BYTES, memory_bytes // 8 // tp)


def release_output() -> None:
    """Make sure that a reader of our output that stops reading does not stop us."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            release(stream.fileno())


def lacking(command: str, package: str, extra: str) -> str:
    """The error if a command needs a package that is not installed."""
    return f"`mmplane {command}` needs {package}: pip install 'mmplane[{extra}]'"


def refuse(error: Exception) -> int:
    """Print why the command cannot start. Returns its exit code."""
    print(f"mmplane: {error}", file=sys.stderr)
    return 2


def listen(host: str, port: int, *, flags: str = "--port or --host") -> socket.socket:
    """Open a listening socket. Raises ValueError for the operator, who can change the address with these `flags`."""
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
    """Host and port as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
