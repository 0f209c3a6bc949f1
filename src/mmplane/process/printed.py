"""What native libraries print: decoders write pieces of clients' files to standard error, past the log and its bounds.

Descriptor 2 becomes a pipe that is read after each item. What does not fit into it is dropped: nobody waits for it.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

PRINTED_BYTES_MAX = 64 * 1024


class Printed:
    """What was written to descriptor 2 since `divert`. The log goes on where it went, by `sys.stderr`."""

    def __init__(self, reader: int) -> None:
        self._reader = reader

    @classmethod
    def divert(cls) -> tuple[Printed, TextIO]:
        """From now on, for good; and standard error as it was."""
        kept = open(os.dup(2), "w", buffering=1, errors="backslashreplace")  # noqa: SIM115 - until the process ends
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.dup2(writer, 2)
        os.close(writer)
        sys.stderr = kept
        return cls(reader), kept

    def take(self) -> str:
        """All that was printed since the last time, at most `PRINTED_BYTES_MAX` of it."""
        with suppress(BlockingIOError):
            return os.read(self._reader, PRINTED_BYTES_MAX).decode(errors="replace").strip()
        return ""
