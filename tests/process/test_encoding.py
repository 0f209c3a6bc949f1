"""Bytes instead of floats, which `auto` takes: an eighth of the arena, and not one bit of the features changes."""

from __future__ import annotations

from pathlib import Path

from blake3 import blake3
from live import serving
from pictures import noise, part, photograph, text
from reference import Reference


def test_auto_is_uint8(tiny_folder: Path, reference: Reference) -> None:
    with serving(tiny_folder) as live:
        assert any("in the arena as uint8, with room for " in line for line in live.log)
        assert live.statistics()["encoding"] == "uint8"
        for media in (photograph("china"), photograph("flower"), noise(1)):
            content = [part(media), text("What is this?")]
            expected = reference.expected(content, [media], 8)
            features = reference.features(media)["pixel_values"]
            trace = live.chat(content, max_tokens=8, mmplane={"trace": True}).json()["mmplane"]["trace"]
            (item,) = trace["items"]
            assert trace["token_ids"] == [expected.tokens]
            digest = blake3(features.numpy().tobytes()).hexdigest()
            assert item["digests"] == {"0": digest, "1": digest}
            assert (item["encoding"], item["dtype"], item["shape"]) == ("uint8", "float32", list(features.shape))
            assert features.nbytes / 8 <= item["bytes"] < features.nbytes / 8 + 256
