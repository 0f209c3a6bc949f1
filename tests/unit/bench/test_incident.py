"""The incident's workload: what its name says, media of two megabytes, and the digest of the features made of them."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from blake3 import blake3

from mmplane.bench.inputs.incident import FEATURES_BYTES, incident
from mmplane.bench.inputs.making import make
from mmplane.bench.inputs.sources import CLIP_BYTES, Source
from mmplane.bench.inputs.stamps import stamped
from mmplane.bench.inputs.workloads import render
from mmplane.core.simulation import Simulation
from mmplane.features.contract.arrays import views
from mmplane.features.simulated import SimulatedProcessor
from mmplane.frontend.body.schema import parse
from mmplane.media.image import decode


@pytest.mark.parametrize(
    ("name", "simulation"),
    [
        ("incident:500", Simulation(500, FEATURES_BYTES)),
        ("incident:20:2MB", Simulation(20, 2_000_000)),
        ("incident:20:400KB", Simulation(20, 400_000)),
        ("incident:20:44", Simulation(20, 44)),
    ],
)
def test_a_name_says_time_and_size(name: str, simulation: Simulation) -> None:
    workload = incident(name)
    assert workload is not None
    assert (workload.name, workload.simulation) == (name, simulation)
    assert workload.flags[:2] == ("--decoder", simulation.decoder)


@pytest.mark.parametrize(
    "name", ["photo", "incident", "incident:", "incident:x", "incident:5:10GB", "incident:5:1.5MB"]
)
def test_another_name_is_not_it(name: str) -> None:
    assert incident(name) is None


@pytest.mark.parametrize("name", ["incident:0", "incident:99999", "incident:5:1", "incident:5:9999MB"])
def test_what_cannot_be_simulated_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="simulated"):
        incident(name)


def test_items_are_files_of_two_megabytes_with_digests_of_their_own(tmp_path: Path) -> None:
    workload = incident("incident:1:44")
    assert workload is not None
    load = workload.make(3, 1)
    items = [make(str(tmp_path), source) for source in load.sources]
    assert [len(item.media) for item in items] == [CLIP_BYTES] * 3
    assert [item.features_bytes for item in items] == [44] * 3
    assert len({item.digest for item in items}) == len({item.media for item in items}) == 3
    (part,) = parse(render(load.requests[1], [item.media for item in items], b"note")).media
    assert base64.b64encode(stamped(items[1].media, b"note")) in bytes(part.source or b"")


def test_the_expected_digest_is_that_of_the_servers_processor_whatever_the_stamp(tmp_path: Path) -> None:
    item = make(str(tmp_path), Source("simulated", 3, 64, 64, 400))
    processor = SimulatedProcessor(Simulation(1, 400), 5)
    layout = processor.layout(64, 64)
    slot = bytearray(layout.length_bytes)
    processor.write(decode(stamped(item.media, b"a note")), views(layout.tensors, memoryview(slot)))
    assert blake3(slot).hexdigest() == item.digest
