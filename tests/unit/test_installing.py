"""`make install` shows what pip fetches, and fails when pip does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
TOOL = TOOLS / "pip.sh"
PIP = """#!/bin/sh
echo "Collecting torch==2.13.0"
echo "  Downloading https://a.host/whl/torch-2.13.0-cp311-cp311-linux_x86_64.whl.metadata (28 kB)"
echo "Downloading https://a.host/whl/torch-2.13.0-cp311-cp311-linux_x86_64.whl (184.2 MB)"
echo "Using cached numpy-2.4.0-cp311-cp311-linux_x86_64.whl (18.0 MB)"
echo "Using cached six-1.17.0-py2.py3-none-any.whl (11 kB)"
echo "Installing collected packages: numpy, torch"
echo "a warning of pip" >&2
exit $CODE
"""


@pytest.mark.parametrize("code", [0, 1])
def test_a_step_shows_its_downloads_with_sizes(code: int, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(PIP)
    python.chmod(0o755)
    ran = subprocess.run(
        [TOOL, python, "2/3 PyTorch", "torch"], env={"CODE": str(code), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    shown = ran.stdout.splitlines()
    assert shown[:4] == [
        "== 2/3 PyTorch",
        "   Downloading torch-2.13.0-cp311-cp311-linux_x86_64.whl, 184.2 MB",
        "   Using cached numpy-2.4.0-cp311-cp311-linux_x86_64.whl, 18.0 MB",
        "   installing the packages",
    ]
    assert (len(shown) == 5 and shown[4].startswith("   done in ")) == (code == 0)
    assert ran.stderr == "a warning of pip\n"
    assert ran.returncode == code


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
@pytest.mark.parametrize(
    ("packages", "allowed", "code"),
    [("torch 2.13.0", "", 0), ("nvidia-nccl-cu13 2.29.7", "", 1), ("nvidia-nccl-cu13 2.29.7", "1", 0)],
)
def test_packages_for_cuda_are_refused_without_a_gpu_unless_allowed(
    packages: str, allowed: str, code: int, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {packages}\n")
    python.chmod(0o755)
    ran = subprocess.run(
        [TOOLS / "no-cuda-without-gpu.sh", python], env={"CUDA_WITHOUT_GPU": allowed, "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == code
    assert ("this machine has no GPU" in ran.stderr) == (code == 1)
    assert ("packages for CUDA" in ran.stdout) == (allowed == "1")
