"""Examples beside a real sidecar: a client in C, and PyTorch's DataLoader."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from sidecar_live import LiveSidecar, at_rest, sidecar, until
from tests.chaos.sidecar import FLAGS, Expected

import client_c
from attaching import attached, picture
from mmplane import Leased

DATALOADER = Path(__file__).parents[2] / "examples" / "dataloader.py"
HANG_S = 200.0


@pytest.fixture(scope="module")
def live(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSidecar]:
    with sidecar(trained_folder, tmp_path_factory.mktemp("sidecar") / "socket", *FLAGS) as live:
        yield live


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((112, 84)).save(out, "JPEG")
    return out.getvalue()


def test_a_client_in_c_leases_a_jpeg_to_a_rank_in_python(
    live: LiveSidecar, trained_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "photo.jpg").write_bytes(jpeg())
    program = client_c.compiled(tmp_path, *client_c.SANITIZED)
    with attached(str(live.path), ("rank", 0, 0, 1)) as (rank,), live.client() as client:
        ran = client_c.run(program, live.path, tmp_path / "photo.jpg", 0)
        assert (ran.returncode, ran.stderr) == (0, "")
        pixels, grid, _ = ran.stdout.splitlines()
        want = Expected(trained_folder).digest(jpeg())
        assert pixels == f"pixel_values float32 [48, 1176] {want}"
        assert grid.startswith("image_grid_thw int64 [1, 3] ")
        assert rank.open(Leased.decode(client_c.leased(ran.stdout))) == want
        rank.tell("drop")
        until(client, at_rest)


def test_workers_of_a_dataloader_have_each_picture_made_once(live: LiveSidecar, tmp_path: Path) -> None:
    """Forked and spawned ones at the same time, of parents that are attached, in two epochs each."""
    pictures = [tmp_path / f"{name}.png" for name in "abc"]
    for path in pictures:
        path.write_bytes(picture(path.name, 84))
    with live.client() as client:
        before = client.statistics()["materialisations"]
        command = [sys.executable, str(DATALOADER), str(live.path), *map(str, pictures), "--start"]
        running = [subprocess.Popen([*command, how], stdout=subprocess.PIPE, text=True) for how in ("fork", "spawn")]
        (forked, _), (spawned, _) = (process.communicate(timeout=HANG_S) for process in running)
        assert [process.returncode for process in running] == [0, 0]
        assert forked == spawned
        tokens, *batches = forked.splitlines()
        assert tokens == "27 tokens"
        sums = [
            re.search(r"pixel_values \((\d+), 1176\), image_grid_thw \((\d), 3\), sum (.*)$", line) for line in batches
        ]
        shapes = [(found[1], found[2]) for found in sums if found]
        assert shapes == [("72", "2"), ("36", "1")] * 2
        assert batches[0].split(": ")[1] == batches[2].split(": ")[1] != batches[1].split(": ")[1]
        figures = until(client, lambda now: at_rest(now) and now["sessions"] == {"producer": 1})
        assert figures["materialisations"] - before == len(pictures)
