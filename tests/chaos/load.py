"""The client process as its parent sees it: its answers so far, its end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import msgspec
from tests.chaos.client import Answer

from mmplane.process.death import die_with_parent
from polling import until

END_LIMIT_S = 90.0
"""A question that hangs is given up before that."""
ROOT = Path(__file__).parents[2]


class Load:
    """One client process, for the block."""

    def __init__(self, url: str, cards: Path, seed: int) -> None:
        command = [sys.executable, "-m", "tests.chaos.client", url, str(cards), str(seed)]
        path = os.pathsep.join([str(ROOT / "tests" / "process"), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": path},
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
        self.answers: list[Answer] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                if line.endswith("\n"):  # else it was killed in the middle of one
                    self.answers.append(msgspec.json.decode(line, type=Answer))

    def more(self, count: int, limit_s: float = 60.0) -> None:
        """Wait for so many answers more that are right."""
        wanted = self.right + count
        until(lambda: self.right >= wanted, limit_s, f"{count} more right answers under load")

    @property
    def right(self) -> int:
        """Right answers so far."""
        return sum(answer.right for answer in self.answers)

    def end(self) -> None:
        """Let it finish what it has asked; nothing happens when it is dead."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(END_LIMIT_S)
        self._reader.join(END_LIMIT_S)

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.end()
        finally:
            self.process.kill()
