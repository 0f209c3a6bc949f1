from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from features.checkpoints import FAMILIES, GENERIC
from features.families.test_log_mel import folder_of
from PIL import Image

from mmplane import doctor
from mmplane.commands.doctor import main
from mmplane.features.arithmetic import kernels


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SIZES", ((112, 84), (61, 150), (2000, 4)))


def picture(path: Path) -> str:
    noise = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    path.write_bytes(buffer.getvalue())
    return str(path)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "llava", "internvl"])
def test_a_sound_checkpoint(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--parity", FAMILIES[name].write(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "61 x 150" in out
    assert "DIFFERS" not in out
    assert ("frames of videos" in out) == (name != "llava")
    assert ("refused by both" in out) == name.startswith("qwen")


def test_given_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = FAMILIES["llava"].write(tmp_path / "model")
    (tmp_path / "no.jpg").write_bytes(b"nothing")
    assert main(["--parity", folder, picture(tmp_path / "a.jpg"), str(tmp_path / "no.jpg")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("a.jpg" in line and "90 x 70" in line and "equal" in line for line in lines)
    assert any("no.jpg" in line and "cannot be decoded" in line for line in lines)
    assert main(["--parity", folder, str(tmp_path / "no.jpg"), str(tmp_path / "missing.jpg")]) == 2


def test_a_difference_is_shown_and_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = kernels.weights

    def off_by_one(*sizes: int) -> object:
        first, count, fixed = right(*sizes)
        return first, count, fixed + np.int32(1 << 12)

    monkeypatch.setattr(kernels, "weights", off_by_one)
    assert main(["--parity", FAMILIES["llava"].write(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "DIFFERS" in out
    assert "differ: a server takes" in out


def test_a_checkpoint_without_a_fast_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--parity", GENERIC.write(tmp_path)]) == 2
    assert "no fast path" in capsys.readouterr().out


def test_a_checkpoint_for_sounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--parity", folder_of(tmp_path)]) == 0
    assert "ulp" in capsys.readouterr().out


def test_nothing_to_try(tmp_path: Path) -> None:
    assert main(["--parity", str(tmp_path)]) == 2


def test_a_backend_that_is_not_here_cannot_be_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """torchvision is not installed beside the tests."""
    assert main(["--parity", FAMILIES["llava"].write(tmp_path), "--backend", "torchvision"]) == 2
    assert "no torchvision backend for this image processor here" in capsys.readouterr().out
