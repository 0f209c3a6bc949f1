"""Holds, from outside: arm one, learn which process has come to it, let it go; see `inside/holds.py`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from polling import until

HELD_LIMIT_S = 60.0


class Holds:
    """A folder that the server under test looks into."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="chaos-holds-"))

    @property
    def environment(self) -> dict[str, str]:
        """What the server has to be started with."""
        inside = Path(__file__).parent / "inside"
        return {"MMPLANE_TEST_HOLDS": str(self._folder), "PYTHONPATH": str(inside)}

    def at(self, stage: str, role: str) -> int:
        """Hold the next process of this role that comes to this stage; its process id, once it stands there."""
        self.arm(stage, role)
        return self.held(stage, role)

    def arm(self, stage: str, role: str) -> None:
        """The next process of this role that comes to this stage will be held."""
        (self._folder / f"{stage} {role}").touch()

    def held(self, stage: str, role: str) -> int:
        """The process that was to be held, once it stands there."""
        name = until(
            lambda: next(self._folder.glob(f"held {stage} *"), None), HELD_LIMIT_S, f"the {role} comes to {stage}"
        ).name
        return int(name.rpartition(" ")[2])

    def let_go(self) -> None:
        """Nobody is held any more, or will be."""
        for path in self._folder.iterdir():
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder)
