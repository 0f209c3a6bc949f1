"""The examples of docs/embedding.md run, and the first is as short as it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[3] / "examples"
EXAMPLE = EXAMPLES / "two_ranks.py"


def test_both_ranks_see_the_same_and_each_image_is_written_once() -> None:
    ran = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, check=True, timeout=100)
    sums = re.findall(r"rank (\d): \(1024, 1176\) float32, sum ([\d.]+)", ran.stdout)
    assert [rank for rank, _ in sums] == ["0", "1"] * 3
    for at in range(0, 6, 2):
        assert sums[at][1] == sums[at + 1][1]
    assert sums[2] == sums[4] != sums[0]
    assert "for 2 items; leases: 0" in ran.stdout


def test_the_ranks_of_the_second_machine_see_the_same_and_each_image_crosses_once() -> None:
    command = [sys.executable, str(EXAMPLES / "two_machines.py")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    sums = re.findall(r"rank (\d): \(1024, 1176\) float32, sum ([\d.]+)", ran.stdout)
    assert [rank for rank, _ in sums] == ["0", "1"] * 3
    assert sums[2][1] == sums[3][1] == sums[4][1] == sums[5][1] != sums[0][1] == sums[1][1]
    bytes_of_two = 2 * 1024 * 1176 * 4
    assert f"written: {bytes_of_two} bytes; crossed: {bytes_of_two}, for 2 ranks" in ran.stdout


def test_it_has_fewer_than_eighty_lines() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 80
