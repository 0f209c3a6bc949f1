"""The sidecar as its users have it: real media, real processes, real deaths."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, get_args

import numpy as np
import pytest
from blake3 import blake3
from PIL import Image
from PIL.ExifTags import Base
from safetensors.numpy import load_file
from sidecar_live import LiveSidecar, at_rest, sidecar, until
from tests.chaos.sidecar import FLAGS, Expected, Ground, rounds

from attaching import attached, picture
from mmplane import BadMedia, BadOption, Client, Embeddings, Lost
from mmplane.core.records import Ask, BackendName
from mmplane.features import verdict
from mmplane.features.checkpoint.files import CheckpointFiles
from mmplane.features.verdict import Subject
from torchvision_reference import TORCHVISION

EXAMPLE = Path(__file__).parents[2] / "examples" / "beside_a_sidecar.py"


@pytest.fixture(scope="module")
def live(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSidecar]:
    with sidecar(trained_folder, tmp_path_factory.mktemp("sidecar") / "socket", *FLAGS) as live:
        yield live


def test_twenty_rounds_of_the_kill_matrix(live: LiveSidecar, trained_folder: Path) -> None:
    ground = Ground(trained_folder, live)
    try:
        for round_ in rounds(20):
            ground.play(round_)
    finally:
        ground.close()


def test_a_processors_arguments_and_embeddings(live: LiveSidecar, trained_folder: Path) -> None:
    """In a real worker: the bits of a call with these arguments, and rows of the model's own width."""
    media, few = picture("a", 168), 28 * 28 * 4
    width = json.loads((trained_folder / "config.json").read_text())["text_config"]["hidden_size"]
    with live.client() as client:
        hold = client.materialise(media, options={"max_pixels": few})
        features = hold.arrays(np)["pixel_values"]
        assert features.shape == client.layout(media, options={"max_pixels": few}).shapes["pixel_values"] == (16, 1176)
        want = Expected(trained_folder).digest(media, Ask("image", arguments=f'{{"max_pixels":{few}}}'))
        assert blake3(features.tobytes()).hexdigest() == want
        with pytest.raises(BadOption, match="takes no crop_to_patches"):
            client.materialise(media, options={"crop_to_patches": True})
        rows, grid = np.ones((4, width), np.float32), np.array([[1, 4, 4]])
        sent = client.materialise(Embeddings(image_embeds=rows, image_grid_thw=grid))
        assert np.array_equal(sent.arrays(np)["image_embeds"], rows)
        with pytest.raises(BadMedia, match=f"tokens x {width}"):
            client.materialise(Embeddings(image_embeds=rows[:, 1:], image_grid_thw=grid))
        with pytest.raises(BadMedia, match="finite"):
            client.materialise(Embeddings(image_embeds=rows * np.inf, image_grid_thw=grid))


def test_a_killed_sidecars_socket_is_replaced_and_all_attach_again(trained_folder: Path, tmp_path: Path) -> None:
    path, media = tmp_path / "socket", picture("a", 84)
    want = Expected(trained_folder).digest(media)
    with sidecar(trained_folder, path, *FLAGS) as first, first.client() as client:
        assert path.stat().st_mode & 0o777 == 0o600
        with attached(str(path), ("rank", 0, 0, 1)) as (rank,):
            client.wait_ranks(0)
            hold = client.materialise(media)
            assert rank.open(hold.lease(0)) == want
            first.kill()
            with pytest.raises(Lost):
                again_and_again(client, media)
            with sidecar(trained_folder, path, *FLAGS):
                client.wait()
                client.wait_ranks(0)
                again = client.materialise(media)
                assert not again.hit
                assert rank.open(again.lease(0)) == want == rank.tell("see")
                assert np.array_equal(hold.arrays(np)["pixel_values"], again.arrays(np)["pixel_values"])
                again.release()
                rank.tell("drop")
                until(client, at_rest)
    assert not path.exists()


def test_the_example_runs_and_a_repeat_is_made_once(trained_folder: Path, tmp_path: Path) -> None:
    pictures = pictures_in(tmp_path)
    ran = run(str(EXAMPLE), str(trained_folder), *pictures, pictures[0])
    assert ran.returncode == 0, ran.stderr
    sums = re.findall(r"rank (\d): \(\d+, \d+\) uint8, sum ([\d.]+)", ran.stdout)
    assert [rank for rank, _ in sums] == ["0", "1"] * 3
    assert sums[0] == sums[4] != sums[2]
    assert "made: 2 of 3" in ran.stdout


@pytest.fixture
def compared(trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a process that can load torchvision had compared the model: here it is installed, for another torch."""
    path = os.pathsep.join([str(TORCHVISION), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.syspath_prepend(str(TORCHVISION))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for backend in get_args(BackendName):
        verdict._remember(Subject(CheckpointFiles(str(trained_folder)), backend), {"image": "same"})


def test_features_of_files_are_written_and_a_bad_one_is_named(
    trained_folder: Path, tmp_path: Path, compared: None
) -> None:
    """With the bits of the backend that was asked for."""
    pictures, bad = pictures_in(tmp_path), tmp_path / "bad.png"
    bad.write_bytes(b"junk")
    command = ("-m", "mmplane", "features", "--model", str(trained_folder), "--workers", "1", "--backend=torchvision")
    turned, exif = tmp_path / "turned.jpg", Image.Exif()
    exif[Base.Orientation] = 6
    Image.new("RGB", (84, 56), "teal").save(turned, exif=exif)
    flags = ("--arena-bytes", str(32 * 2**20), "--decode-profile", "sglang", "--out", str(tmp_path))
    ran = run(*command, *flags, pictures[0], str(bad), pictures[1], str(turned))
    assert ran.returncode == 1, ran.stderr
    assert f"{bad}: the decode profile sglang does not cover it" in ran.stderr
    assert load_file(turned.with_suffix(".safetensors"))["image_grid_thw"].tolist() == [[1, 4, 6]], "as it is stored"
    expected, others = Expected(trained_folder, "torchvision"), Expected(trained_folder)
    for path in map(Path, pictures):
        arrays = load_file(path.with_suffix(".safetensors"))
        made = blake3(arrays["pixel_values"].tobytes()).hexdigest()
        assert made == expected.digest(path.read_bytes()) != others.digest(path.read_bytes())
        assert arrays["image_grid_thw"].tolist() == [[1, 6, 6]]


def again_and_again(client: Client, media: bytes) -> NoReturn:
    """Until the kernel has ended the keeper as well."""
    while True:
        client.materialise(media)


PARENT = """
import signal, sys
from mmplane import Sidecar
sidecar = Sidecar.start(model=sys.argv[1], workers=1, arena_bytes=32 << 20)
print(sidecar._process.pid, sidecar.socket, flush=True)
signal.pause()
"""


def test_a_sidecar_ends_with_the_process_that_started_it(trained_folder: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(trained_folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, path = parent.stdout.readline().split()
        pidfd = os.pidfd_open(int(pid))
        with Client(path) as client:
            parent.kill()
            assert select.select([pidfd], [], [], 60)[0], "it has ended"
            with pytest.raises(Lost):
                again_and_again(client, picture("a", 84))
        os.close(pidfd)
    assert not Path(path).exists()
    Path(path).parent.rmdir()


def pictures_in(folder: Path) -> list[str]:
    for name in "ab":
        (folder / f"{name}.png").write_bytes(picture(name, 84))
    return [str(folder / "a.png"), str(folder / "b.png")]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=200)
