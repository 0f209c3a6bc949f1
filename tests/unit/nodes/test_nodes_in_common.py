"""What a machine must have in common with its server, and the interface that ranks use."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from mmplane.config import Config
from mmplane.machines.kin import differences
from mmplane.models.tiny import build_tiny
from mmplane.nodes import kin
from mmplane.nodes.node import configured, is_for
from mmplane.ranks.model.meeting import interface_of


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    build_tiny(folder)
    return folder


def config(model: Path) -> Config:
    return Config(model="tiny", model_folder=str(model), served_name="tiny", tp=2, nodes=2)


def test_two_copies_of_a_checkpoint_are_equal(model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    assert differences(kin.kin_of(config(model), 1), kin.kin_of(config(copy), 1)) == ""


@pytest.mark.parametrize("where", [100, -1])
def test_other_weights_are_told_apart(where: int, model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    weights = next(copy.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[where] ^= 1
    weights.write_bytes(content)
    told = differences(kin.kin_of(config(model), 1), kin.kin_of(config(copy), 1))
    assert told.startswith("weights is ")
    assert " on the server and " in told


def test_another_version_and_another_number_of_ranks_are_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = kin.kin_of(config(model), 1)
    monkeypatch.setattr(kin, "version", lambda name: "0.0" if name == "torch" else "1")
    told = differences(server, kin.kin_of(config(model), 2))
    assert "torch is " in told
    assert "0.0 on the machine" in told
    assert "number of ranks is 1 on the server and 2 on the machine" in told


def test_a_node_is_for_the_server_whose_settings_it_has(model: Path) -> None:
    server = config(model)
    own = {"model": "./here", "model_folder": "/here", "served_name": "machine-1", "join": "10.0.0.1:9100"}
    node = configured(server, own | {"log_level": "debug", "log_format": "json"})
    assert (node.kind, node.served_name, node.tp) == ("node", "machine-1", 2)
    assert is_for(server, node)
    assert is_for(msgspec.structs.replace(server, copy_features=True), node)
    for change in ({"arena_bytes": 1 << 29}, {"tp": 4}, {"workers": 3}, {"prefill_tokens": 7}):
        assert not is_for(msgspec.structs.replace(server, **change), node), change


def test_an_interface_is_found_by_its_address() -> None:
    assert interface_of("127.0.0.1") == "lo"
    with pytest.raises(ValueError, match=r"no interface of this machine has the address 192\.0\.2\.1"):
        interface_of("192.0.2.1")
