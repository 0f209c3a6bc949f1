"""Reads single keys from a terminal, without Enter."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from typing import Self


class Keyboard:
    """Standard input while entered. If it is not a terminal, no key is ever pressed."""

    def __init__(self) -> None:
        self._input = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._input) if os.isatty(self._input) else None

    def __enter__(self) -> Self:
        if self._before is not None:
            tty.setcbreak(self._input)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)

    def pressed(self, seconds: float) -> str:
        """Wait this many seconds for a key; return "" if none was pressed."""
        if self._before is None:
            time.sleep(seconds)
            return ""
        ready, _, _ = select.select([self._input], [], [], seconds)
        return os.read(self._input, 1).decode(errors="replace") if ready else ""
