"""Secrets in the environment and in files: read once, and then nowhere in the memory of the process."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from process_programs import program

from memory import copies

PROGRAM = """
import os
from mmplane.commands.keys import read_keyring
keyring = read_keyring(sys.argv[2])
report(len(keyring.digests))
import signal
signal.pause()
"""


@pytest.mark.parametrize("length", [8, 24, 63, 64, 200])
@pytest.mark.parametrize("where", ["file", "MMPLANE_API_KEY", "MMPLANE_API_KEYS"])
def test_no_key_stays_in_memory(where: str, length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = secrets.token_urlsafe(length)[:length]
    path = tmp_path / "keys"
    if where == "file":
        path.write_text(f"# ours\nalice:{key}\n")
    else:
        monkeypatch.setenv(where, key)
    with program(PROGRAM, arguments=(str(path) if where == "file" else "",)) as process:
        assert process.line() == "1"
        assert copies(process.process.pid, key.encode()) == 0
