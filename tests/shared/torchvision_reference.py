"""Asks transformers' own processors, in a process that has torchvision, what they give for a clip or for images."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

TORCHVISION = Path(sys.prefix) / "reference"
"""Where `make install-dev` puts torchvision: in no environment's path."""

INSTALL = f"pip install --no-deps --target {TORCHVISION.name} torchvision==0.28.0"

Pixels = npt.NDArray[np.uint8]


class Reference:
    """One process, asked one thing at a time."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder

    def clip(self, model_folder: str, frames: Pixels, text: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """The whole processor's outputs as arrays; `error` where it raises ValueError."""
        return self._ask("clip", {"frames": frames}, folder=model_folder, text=text, metadata=dict(metadata))

    def clips(self, model_folder: str, clips: Sequence[Pixels], **arguments: Any) -> list[Any]:
        """The features that the video processor alone gives for each."""
        given = {str(number): frames for number, frames in enumerate(clips)}
        answer = self._ask("clips", given, folder=model_folder, arguments=arguments)
        return [answer[number] for number in given]

    def generic_clip(self, model_folder: str, media: bytes, arguments: str = "") -> dict[str, Any]:
        """Our arrays of a clip's file by the generic path, with `expansion`; only `refused` where it is."""
        given = {"media": np.frombuffer(media, np.uint8)}
        return self._ask("generic clip", given, folder=model_folder, arguments=arguments)

    def images(
        self, model_folder: str, images: Sequence[Pixels], *, as_bytes: bool = False, backend: str = "torchvision"
    ) -> list[dict[str, Any]]:
        """Of each image what the model takes, and the `expansion` of its placeholder; only `refused` where it is.

        With `as_bytes` also the features that are neither rescaled nor normalised, `bytes`.
        """
        given = {str(number): pixels for number, pixels in enumerate(images)}
        answers = self._ask("images", given, folder=model_folder, bytes=as_bytes, backend=backend)
        assert "error" not in answers, answers["error"]
        found: list[dict[str, Any]] = [{} for _ in images]
        for label, array in answers.items():
            number, _, name = label.partition(" ")
            found[int(number)][name] = array
        return found

    def defaults(self, kind: str) -> dict[str, Any]:
        """What a class of image processors takes where nothing is given, by option."""
        return dict(json.loads(str(self._ask("options", {}, **{"class": kind})["defaults"])))

    def verdict(self, model_folder: str, cache: Path) -> str:
        """What it finds of the fast path for images, and remembers below `cache`."""
        return str(self._ask("verdict", {}, folder=model_folder, cache=str(cache))["verdict"])

    def _ask(self, kind: str, given: Mapping[str, Any], **content: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request, arrays = self._folder / "request.json", self._folder / "given.npz"
        np.savez(arrays, **given)
        request.write_text(json.dumps({"kind": kind, "given": str(arrays), **content}))
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
