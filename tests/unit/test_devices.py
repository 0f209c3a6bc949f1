"""Where ranks compute: what is given holds, and a machine with one GPU uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmplane.commands.devices import check_gpus, gpus_visible, placed


@pytest.mark.parametrize(
    ("named", "visible"),
    [
        (None, 4),
        ("", 0),
        ("-1", 0),
        ("2", 1),
        ("0,3", 2),
        ("0, 1", 2),
        ("0,-1,1", 1),
        ("0,7", 1),
        ("GPU-8932f937,MIG-5b2c", 2),
        ("nonsense", 0),
    ],
)
def test_cudas_own_variable_counts(named: str | None, visible: int, tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidia3", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert gpus_visible({} if named is None else {"CUDA_VISIBLE_DEVICES": named}, tmp_path) == visible


def test_a_variable_makes_no_gpu(tmp_path: Path) -> None:
    assert gpus_visible({"CUDA_VISIBLE_DEVICES": "GPU-8932f937"}, tmp_path) == 0


@pytest.mark.parametrize(
    ("device", "tp", "tp_given", "gpus", "place"),
    [
        ("auto", 2, False, 0, ("cpu", 2)),
        ("auto", 2, False, 1, ("cuda", 1)),
        ("auto", 2, True, 1, ("cpu", 2)),
        ("auto", 2, False, 8, ("cuda", 2)),
        ("auto", 8, True, 4, ("cpu", 8)),
        ("cpu", 2, False, 1, ("cpu", 2)),
        ("cpu", 2, False, 8, ("cpu", 2)),
        ("cuda", 2, False, 1, ("cuda", 1)),
        ("cuda", 2, True, 1, ("cuda", 2)),
        ("cuda", 2, False, 0, ("cuda", 2)),
    ],
)
def test_what_is_given_holds_and_a_single_gpu_is_used(
    device: str, tp: int, tp_given: bool, gpus: int, place: tuple[str, int]
) -> None:
    assert placed(device, tp, tp_given=tp_given, gpus=gpus) == place


def test_more_ranks_than_gpus_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    check_gpus("cuda", 2, gpus=2, devices=tmp_path)
    check_gpus("cpu", 2, gpus=0, devices=tmp_path)
    with pytest.raises(ValueError, match="--device cuda: CUDA shows 1 GPUs here for 2 ranks"):
        check_gpus("cuda", 2, gpus=1, devices=tmp_path)
    (tmp_path / "dxg").touch()
    check_gpus("cuda", 2, gpus=0, devices=tmp_path)
