"""How a command ends that nobody lets finish: without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mmplane.commands import example
from mmplane.commands.main import main

COMMAND = (sys.executable, "-m", "mmplane")


def test_ctrl_c_ends_a_command_quietly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(example, "main", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["example"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("words", [["deploy", "kubernetes"], ["serve", "--help"], ["--help"]])
def test_a_reader_that_has_gone(words: list[str]) -> None:
    """As `mmplane ... | true` has it."""
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run([*COMMAND, *words], stdout=write, stderr=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(write)
    assert ended.stderr == b""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed(closed: str) -> None:
    """Nothing else gets their numbers, and nothing fails for want of them."""
    line = f"{sys.executable} -m mmplane example client {closed}"
    ended = subprocess.run(["sh", "-c", line], capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
