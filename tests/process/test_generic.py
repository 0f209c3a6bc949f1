"""`--generic`: transformers itself in a sidecar's workers, and a refusal without the flag."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.unit.features.checkpoints import GENERIC

from attaching import picture
from mmplane import Sidecar, SidecarError
from mmplane.features.reference.huggingface import HuggingFaceImageProcessor
from mmplane.features.reference.parity import materialise


def test_without_the_flag_it_is_refused_and_with_it_transformers_serves(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, media = GENERIC.write(tmp_path), picture("a", 84)
    with pytest.raises(SidecarError, match="ended before it was ready"):
        Sidecar.start(model=folder, workers=1, arena_bytes=32 << 20)
    assert "Start with --generic" in capfd.readouterr().err
    theirs = materialise(HuggingFaceImageProcessor.load(folder), np.asarray(Image.open(io.BytesIO(media))))
    with (
        Sidecar.start(model=folder, workers=1, arena_bytes=32 << 20, generic=True) as sidecar,
        sidecar.connect() as client,
        client.materialise(media) as hold,
    ):
        assert client.layout(media).shapes == {"pixel_values": (1, 3, 56, 56)}
        np.testing.assert_array_equal(hold.arrays(np)["pixel_values"], theirs["pixel_values"], strict=True)
