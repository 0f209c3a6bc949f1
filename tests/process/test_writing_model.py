"""Invariant 7: a model that writes into its inputs dies on a read-only page at start, and then serves from copies."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from blake3 import blake3
from live import serving
from llava import build_llava
from pictures import noise, part, text
from preloaded import Preloaded
from reference import Reference

WRITES = """
from transformers.models.llava.modeling_llava import LlavaModel
from functools import wraps

reads = LlavaModel.get_image_features

@wraps(reads)
def writes(self, pixel_values, *rest, **more):
    pixel_values.mul_({factor})
    return reads(self, pixel_values, *rest, **more)

LlavaModel.get_image_features = writes
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "llava"
    build_llava(path)
    return path


def test_it_gets_copies(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WRITES.format(factor=0.5))
    with (
        closing(Preloaded({"PYTHONPATH": str(tmp_path)})) as writing,
        serving(folder, "--encoding", "float32", preloaded=writing) as live,
    ):
        assert any("rank" in line and "ended" in line for line in live.log), "the first group died of its write"
        digest = blake3(Reference(folder).features(noise(1))["pixel_values"].numpy().tobytes()).hexdigest()
        for _ in range(2):  # the second time from the same slot: what the model wrote is not in it
            answer = live.chat([part(noise(1)), text("?")], max_tokens=2, mmplane={"trace": True}).json()
            assert answer["mmplane"]["trace"]["items"][0]["digests"] == {"0": digest, "1": digest}
