"""Captures what native libraries print: decoders write parts of clients' files to standard error, bypassing the log.

Descriptor 2 becomes a pipe that is read after each item. What does not fit into it is dropped: no process waits for it.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

PRINTED_BYTES_MAX = 64 * 1024


class Printed:
    """What was written to descriptor 2 since `divert`. The log still reaches its destination through `sys.stderr`."""

    def __init__(self, reader: int) -> None:
        self._reader = reader

    @classmethod
    def divert(cls) -> tuple[Printed, TextIO]:
        """Divert descriptor 2 permanently. Returns this, and the former standard error."""
        kept = open(os.dup(2), "w", buffering=1, errors="backslashreplace")  # noqa: SIM115 - until the process ends
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.dup2(writer, 2)
        os.close(writer)
        sys.stderr = kept
        return cls(reader), kept

    def take(self) -> str:
        """Everything printed since the last call, at most `PRINTED_BYTES_MAX` of it."""
        with suppress(BlockingIOError):
            return os.read(self._reader, PRINTED_BYTES_MAX).decode(errors="replace").strip()
        return ""
