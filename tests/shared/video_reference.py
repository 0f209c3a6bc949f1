"""Asks transformers' own video processors, in a process that has torchvision, what they give for a clip."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

TORCHVISION = Path(sys.prefix) / "reference"
"""Where `make install-dev` puts torchvision: in no environment's path."""

INSTALL = f"pip install --no-deps --target {TORCHVISION.name} torchvision==0.28.0"


class Reference:
    """One process, asked one clip at a time."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder

    def __call__(
        self, model_folder: str, frames: npt.NDArray[np.uint8], text: str, metadata: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The processor's outputs as arrays; `error` where it raises ValueError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request, pixels = self._folder / "request.json", self._folder / "frames.npy"
        np.save(pixels, frames)
        content = {"folder": model_folder, "frames": str(pixels), "text": text, "metadata": dict(metadata)}
        request.write_text(json.dumps(content))
        self._process.stdin.write(f"{request}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n", "the reference process ended"
        with np.load(f"{request}.npz") as answer:
            return dict(answer)


@contextmanager
def reference_process(folder: Path) -> Iterator[Reference]:
    """Start it; it ends with the block."""
    program = Path(__file__).with_name("torchvision_stub.py")
    command = [sys.executable, "-W", "ignore", str(program), str(TORCHVISION)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Reference(process, folder)
        assert process.stdin is not None
        process.stdin.close()
