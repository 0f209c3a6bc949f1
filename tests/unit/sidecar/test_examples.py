"""What examples and deploy/ do with a sidecar. Examples that need a real one: tests/process/test_examples.py."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from sidecar_rig import Rig, features

from attaching import picture

ROOT = Path(__file__).parents[3]


@pytest.fixture
def ray_map_batches(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example as a module, without Ray: `make test-ray` runs it with."""
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    spec = importlib.util.spec_from_file_location("ray_map_batches", ROOT / "examples" / "ray_map_batches.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_actor_of_ray_data_gives_a_row_for_each_picture(rig: Rig, tmp_path: Path, ray_map_batches: Any) -> None:
    files = {tmp_path / name: picture(name, side) for name, side in (("a", 32), ("b", 16), ("c", 32))}
    for path, media in files.items():
        path.write_bytes(media)
    actor = ray_map_batches.Features(rig.socket)
    paths = np.array(list(map(str, files)))
    for _ in range(2):
        batch = actor({"path": paths})
        assert set(batch) == {"path", "f"}
        assert list(batch["path"]) == list(paths)
        for (path, media), values in zip(files.items(), batch["f"], strict=True):
            assert np.array_equal(values, features(media, 16 if path.name == "b" else 32))
        assert values.base is None, "a copy"
    assert rig.statistics()["materialisations"] == 3
    assert rig.until(lambda now: not now["holds"])
    actor._client.close()


def test_the_probes_of_the_pod_ask_the_sidecar(rig: Rig) -> None:
    deployment = yaml.safe_load((ROOT / "deploy" / "kubernetes-sidecar.yaml").read_text())
    (sidecar,) = deployment["spec"]["template"]["spec"]["initContainers"]
    (socket,) = [flag.removeprefix("--socket=") for flag in sidecar["args"] if flag.startswith("--socket=")]
    assert sidecar["startupProbe"]["exec"] == sidecar["readinessProbe"]["exec"]
    python, option, program = sidecar["readinessProbe"]["exec"]["command"]
    assert (python, option) == ("/opt/mmplane/bin/python", "-c")
    assert probe(program.replace(socket, rig.socket)) == (0, "")
    code, error = probe(program.replace(socket, f"{rig.socket}.gone"))
    assert code == 1
    assert "Lost: there is no sidecar at" in error


def probe(program: str) -> tuple[int, str]:
    ran = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    return ran.returncode, ran.stderr
