"""examples/ray_map_batches.py under a real Ray, in an environment of its own: `make test-ray`.

Ray listens on all addresses of a machine, so it gets a network namespace with nothing but loopback in it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np

from attaching import picture
from mmplane import Sidecar
from mmplane.models.tiny import SHIPPED_WEIGHTS, build_tiny

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-ray" / "bin" / "python"
EXAMPLE = ROOT / "examples" / "ray_map_batches.py"
APART = ("unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
HANG_S = 500.0


def test_two_actors_give_a_row_for_each_picture_which_is_made_once(tmp_path: Path) -> None:
    build_tiny(tmp_path / "tiny", weights=SHIPPED_WEIGHTS)
    pictures = {str(tmp_path / f"{number}.png"): picture(str(number), 56 + 28 * (number % 3)) for number in range(20)}
    for path, media in pictures.items():
        Path(path).write_bytes(media)
    how = {"workers": 1, "arena_bytes": 64 * 2**20, "encoding": "float32"}
    with Sidecar.start(model=tmp_path / "tiny", **how) as sidecar, sidecar.connect() as client:  # type: ignore[arg-type]
        rows = run(tmp_path, sidecar.socket, *pictures)
        assert list(rows) == list(pictures)
        for path, row in rows.items():
            pixels = client.materialise(path).arrays(np)["pixel_values"]
            assert row == f"{pixels.shape} float32, sum {pixels.sum(dtype=np.float64):.3f}"
        assert client.statistics()["materialisations"] == len(pictures)


def run(home: Path, *arguments: str) -> dict[str, str]:
    """What the example prints, by path. Ray keeps its token in `home`."""
    environment = {**os.environ, "HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [*APART, str(PYTHON), str(EXAMPLE), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_S, env=environment)
    assert ran.returncode == 0, ran.stderr
    return dict(line.split(": ", 1) for line in ran.stdout.splitlines() if line.startswith(arguments[1:]))
