"""The default device of ranks: GPUs, if there is one for each rank."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def gpus_visible(environment: Mapping[str, str], devices: Path = Path("/dev")) -> int:
    """The number of NVIDIA devices that CUDA will show to this process, respecting `CUDA_VISIBLE_DEVICES`."""
    present = len(list(devices.glob("nvidia[0-9]*")))
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return present
    visible = 0
    for name in named.split(","):  # CUDA stops at the first one that does not exist, so "" and "-1" show nothing
        known = name.strip().isdecimal() and int(name) < present
        if not known and not name.strip().startswith(("GPU-", "MIG-")):
            break
        visible += 1
    return visible if present else 0


def check_gpus(device: str, tp: int, *, gpus: int, devices: Path = Path("/dev")) -> None:
    """Raises ValueError where CUDA will show fewer GPUs than ranks. Under WSL they have no devices of their own."""
    if device == "cuda" and gpus < tp and not (devices / "dxg").exists():
        raise ValueError(f"--device cuda: CUDA shows {gpus} GPUs here for {tp} ranks; try --device cpu")


def placed(device: str, tp: int, *, tp_given: bool, gpus: int) -> tuple[str, int]:
    """The device and the number of ranks. `cpu` and `cuda` are used as given; `auto` uses GPUs if there are enough.

    With a single GPU, the default number of ranks is 1.
    """
    if device != "cpu" and not tp_given and gpus == 1:
        return "cuda", 1
    if device == "auto":
        return ("cuda" if gpus >= tp else "cpu"), tp
    return device, tp
