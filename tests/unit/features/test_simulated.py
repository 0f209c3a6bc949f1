"""The simulated decoder: features of the stated size that depend on the pixels, after the stated time of waiting."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from mmplane.config import Config
from mmplane.core.simulation import REAL, Simulation, simulation_of
from mmplane.features.choice import choose
from mmplane.features.contract.arrays import views
from mmplane.features.simulated import BLOCK_BYTES, SimulatedProcessor
from mmplane.models.tiny import build_tiny

BYTES = 3 * BLOCK_BYTES + 400
PROCESSOR = SimulatedProcessor(Simulation(500, BYTES), placeholder_id=5)
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)


@pytest.fixture
def waited_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited


def made(pixels: np.ndarray) -> bytes:
    layout = PROCESSOR.layout(8, 8)
    slot = bytearray(layout.length_bytes)
    assert PROCESSOR.write(pixels, views(layout.tensors, memoryview(slot))) == len(slot) == BYTES
    return bytes(slot)


def test_features_have_the_stated_size_and_depend_on_every_pixel(waited_s: list[float]) -> None:
    other = PIXELS.copy()
    other[-1, -1, -1] ^= 1
    assert made(PIXELS) == made(PIXELS.copy()) != made(other)
    assert len(waited_s) == 3


def test_it_waits_for_what_is_left_of_its_time(waited_s: list[float]) -> None:
    made(PIXELS)
    (seconds,) = waited_s
    assert 0 < seconds <= 0.5


def test_features_do_not_compress(waited_s: list[float]) -> None:
    sample = made(PIXELS)[BYTES // 2 :][: 64 * 1024]
    assert len(zlib.compress(sample)) > len(sample)


def test_processors_with_other_constants_have_other_keys() -> None:
    fingerprints = {SimulatedProcessor(Simulation(ms, size), 5).fingerprint for ms in (1, 2) for size in (4, 8)}
    assert len(fingerprints) == 4


def test_a_server_takes_it_instead_of_the_models_own(tmp_path: Path) -> None:
    build_tiny(tmp_path / "tiny")
    config = Config(model="tiny", model_folder=str(tmp_path / "tiny"), served_name="tiny", device="cpu")
    real = choose(config)
    simulated = choose(
        Config(**{name: getattr(config, name) for name in config.__struct_fields__} | {"decoder": "sim:9:400"})
    )
    assert set(simulated.present) == {"image"}
    assert simulated.for_images.placeholder_id == real.for_images.placeholder_id
    assert simulated.for_images.layout(64, 64).length_bytes == 400


def test_a_decoder_is_read_back() -> None:
    assert simulation_of(REAL) is None
    assert simulation_of(Simulation(500, 400).decoder) == Simulation(500, 400)
    assert simulation_of("sim:500:10MB") == Simulation(500, 10_000_000)


@pytest.mark.parametrize(
    "decoder",
    ["", "sim", "sim:5", "sim:0:4", "sim:20001:4", "sim:5:0", "sim:5:6", "sim:5:2000000000", "sim:-5:4", "sim:5:1XB"],
)
def test_other_decoders_are_refused(decoder: str) -> None:
    with pytest.raises(ValueError, match=r"decoder|features"):
        simulation_of(decoder)
