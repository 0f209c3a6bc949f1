"""What attached processes see of the decode profile: keys of its own, and a typed error for what it leaves out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from sidecar_rig import Rig

from attaching import picture
from mmplane import BadMedia, Client, Unprofiled
from mmplane.arena.arena import Arena
from mmplane.commands.options import DECODE_PROFILES
from mmplane.config import Config
from mmplane.core.control import Spawn, Unloadable
from mmplane.sidecar.main import KeeperProcess

NO_FORMAT_OF_OURS = b"P6 1 1 255 abc"


def test_a_model_that_the_engine_loads_otherwise_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["Glm4vForConditionalGeneration"]}')
    config = Config(
        model="m", model_folder=str(tmp_path), served_name="m", kind="sidecar", tp=1, decode_profile="sglang"
    )
    keeper = KeeperProcess(config, Spawn(1, "sidecar", 0, 1, 1, 1, b"", ()), {"region0": -1})
    said: list[Unloadable] = []
    keeper._supervisor = SimpleNamespace(post=said.append)  # type: ignore[assignment]
    with pytest.raises(SystemExit):
        keeper._make(Arena(config.region_bytes()))
    assert ["Glm4vForConditionalGeneration in a different way" in each.reason for each in said] == [True]


def test_keys_and_fingerprints_have_the_profile_in_them(rig_of: Callable[..., Rig]) -> None:
    rigs = [rig_of(profile=profile) for profile in DECODE_PROFILES]
    keys = set()
    for rig in rigs:
        with rig.client() as client:
            keys.add(client.layout(picture("a")).key)
    assert len(keys) == len({rig.processors.fingerprint for rig in rigs}) == len(DECODE_PROFILES)


def test_what_an_engines_profile_leaves_out_is_no_bad_media(rig_of: Callable[..., Rig]) -> None:
    rig = rig_of(profile="sglang")
    with rig.client() as client:
        for ask in (client.layout, client.materialise):
            with pytest.raises(Unprofiled, match="profile sglang does not cover it"):
                ask(NO_FORMAT_OF_OURS)
        first, second = client.map([NO_FORMAT_OF_OURS, picture("a")], failures=True)
        assert isinstance(first, Unprofiled)
        second.release()  # type: ignore[union-attr]
    assert rig.statistics()["unprofiled"] == {"modality": 0, "format": 3, "limit": 0, "header": 0}


def test_our_own_profile_covers_all_that_there_is(rig: Rig, client: Client) -> None:
    with pytest.raises(BadMedia, match="format is not supported"):
        client.materialise(NO_FORMAT_OF_OURS)
    assert not any(rig.statistics()["unprofiled"].values())
