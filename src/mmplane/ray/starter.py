"""Becomes the command that a host starts: ends with the actor, and has none of what Ray gives to its own processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from mmplane.process.death import die_with_parent
from mmplane.process.oom import SCORE


def main(arguments: Sequence[str]) -> None:
    """The actor's process id, and the command line after `mmplane`."""
    parent, *words = arguments
    die_with_parent(int(parent))
    with suppress(OSError):
        SCORE.write_text("0")  # Ray's processes have up to 1000, and our own roles add theirs
    os.execv(sys.executable, [sys.executable, "-m", "mmplane", *words])  # noqa: S606 - our own command


if __name__ == "__main__":
    main(sys.argv[1:])
