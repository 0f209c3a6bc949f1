"""The example of docs/embedding.md runs, and is as short as it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "two_ranks.py"


def test_both_ranks_see_the_same_and_each_image_is_written_once() -> None:
    ran = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, check=True, timeout=100)
    sums = re.findall(r"rank (\d): \(1024, 1176\) float32, sum ([\d.]+)", ran.stdout)
    assert [rank for rank, _ in sums] == ["0", "1"] * 3
    for at in range(0, 6, 2):
        assert sums[at][1] == sums[at + 1][1]
    assert sums[2] == sums[4] != sums[0]
    assert "for 2 items; leases: 0" in ran.stdout


def test_it_has_fewer_than_eighty_lines() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 80
