"""The base package needs blake3 and msgspec, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import blake3
import msgspec

import mmplane

PROGRAM = """
import sys
import mmplane
import mmplane.mirrors.mirror
import mmplane.mirrors.producer
address = mmplane.Address.create(1 << 20, (1,))
plane, inbox = mmplane.Plane(address), mmplane.Inbox(address, 0)
leased = plane.draft([("f", "float32", (5,))]).publish(bytes(32)).lease()
inbox.open(leased)
assert plane.statistics()["leases"] == 0
found = {name.partition(".")[0] for name in sys.modules} & {"torch", "numpy", "transformers", "PIL", "starlette"}
assert not found, found
"""


def test_import_and_lease_with_nothing_else_installed(tmp_path: Path) -> None:
    for package in (blake3, msgspec, mmplane):
        folder = Path(package.__file__).parent
        (tmp_path / folder.name).symlink_to(folder)
    command = [sys.executable, "-S", "-c", PROGRAM]
    ran = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
