"""The processors of a model, together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from mmplane.config import Config
from mmplane.core.errors import RequestError
from mmplane.features.checkpoint import files
from mmplane.features.choice import Processors, choose
from mmplane.features.room import PICTURE, described

from .checkpoints import FAMILIES


class Counting:
    """A processor that counts how often its fingerprint is made."""

    made = 0

    @property
    def fingerprint(self) -> bytes:
        self.made += 1
        return b"f" * 32


def test_a_fingerprint_is_made_once_for_all_keys() -> None:
    """It is a part of every key, and reads the versions of packages from disk."""
    image = Counting()
    processors = Processors("float32", cast("Any", image))
    assert len({processors.fingerprint_of("image") for _ in range(100)}) == 1
    assert image.made == 1
    assert replace(processors, decode_profile="vllm").fingerprint_of("image") != processors.fingerprint_of("image")


def test_keys_contain_the_versions_of_the_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another decoder makes other pixels, and of no other modality."""
    version = files.version

    def keys(newer: str) -> list[bytes]:
        monkeypatch.setattr(files, "version", lambda name: "9" if name == newer else version(name))
        processors = Processors("float32", *(cast("Any", Counting()) for _ in range(3)))
        return [processors.fingerprint_of(modality) for modality in ("image", "video", "audio")]

    now = keys("none")
    for newer, same in (("pi-heif", [False, True, True]), ("soxr", [True, True, False]), ("av", [True, False, False])):
        assert [one == other for one, other in zip(now, keys(newer), strict=True)] == same


@pytest.mark.parametrize("device", ["cpu", "cuda", "none"])
def test_auto_takes_bytes_on_every_device(device: str, tmp_path: Path) -> None:
    folder = FAMILIES["qwen2_5_vl"].write(tmp_path)
    config = Config(model="", model_folder=folder, served_name="", device=device)
    processors = choose(config, {"image": "same"})
    assert (processors.encoding, processors.for_images.layout(90, 70).tensors[0].dtype) == ("uint8", "uint8")


def test_the_room_for_pictures_is_that_of_the_workers_regions(tmp_path: Path) -> None:
    folder = FAMILIES["qwen2_5_vl"].write(tmp_path)
    each_bytes = {}
    for encoding in ("float32", "uint8"):
        config = Config(model="", model_folder=folder, served_name="", encoding=encoding)
        processors = choose(config, {"image": "same"})
        each_bytes[encoding] = processors.for_images.layout(*PICTURE).length_bytes
        regions = (10**9, 3 * each_bytes[encoding], 4 * each_bytes[encoding] - 1)
        assert f"as {encoding}, with room for 6 pictures of 1288x966 pixels" in described(processors, regions)
    assert each_bytes["float32"] > 7.9 * each_bytes["uint8"]


def test_what_a_model_does_not_take_has_none() -> None:
    with pytest.raises(RequestError) as refused:
        Processors("float32", cast("Any", Counting())).fingerprint_of("video")
    assert refused.value.status == 422
