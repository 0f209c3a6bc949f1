"""`--generic`: transformers itself in a sidecar's workers, and a refusal without the flag."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from tests.unit.features.checkpoints import GENERIC
from tests.unit.features.test_generic_sounds import SOUNDS, folder_of, made

from attaching import picture
from mmplane.commands import features
from mmplane.features.reference.huggingface import HuggingFaceImageProcessor
from mmplane.features.reference.parity import materialise
from mmplane.features.select import generic_sounds


def test_without_the_flag_it_is_refused_and_with_it_transformers_serves(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the command that starts a sidecar as its child: every flag on the way is needed."""
    folder, file = GENERIC.write(tmp_path / "model"), tmp_path / "a.png"
    file.write_bytes(picture("a", 84))
    command = ["--model", folder, str(file), "--out", str(tmp_path), "--workers", "1", "--arena-bytes", str(32 << 20)]
    assert features.main(command) == 2
    assert "Start with --generic" in capfd.readouterr().err
    assert features.main([*command, "--generic"]) == 0
    theirs = materialise(HuggingFaceImageProcessor.load(folder), np.asarray(Image.open(file)))
    made = load_file(tmp_path / "a.safetensors")
    assert made.keys() == theirs.keys()
    np.testing.assert_array_equal(made["pixel_values"], theirs["pixel_values"], strict=True)


def test_sounds_of_a_family_without_a_fast_path(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A model that takes nothing else."""
    folder, file = folder_of("glmasr", tmp_path / "model"), tmp_path / "a.flac"
    file.write_bytes(SOUNDS["seven seconds"]())
    command = ["--model", folder, str(file), "--out", str(tmp_path), "--workers", "1", "--arena-bytes", str(32 << 20)]
    assert features.main(command) == 2
    assert "Start with --generic" in capfd.readouterr().err
    assert features.main([*command, "--generic"]) == 0
    theirs, _ = made(generic_sounds(folder, "float32"), file.read_bytes())
    stored = load_file(tmp_path / "a.safetensors")
    assert stored.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(stored[name], array, strict=True)
