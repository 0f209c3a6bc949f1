"""deploy/kubernetes-sidecar.yaml: the sidecar's flags exist, its memory is accounted, nobody is root.

What its probes do is tried in tests/unit/sidecar/test_examples.py.
"""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

import pytest
from manifests import DEPLOY, WORKER_BYTES, amount, manifest, mount

from mmplane.commands.sidecar import add_flags
from mmplane.config import MIB
from mmplane.embed.sidecar import START_SECONDS

REST_BYTES = 256 * MIB
"""Supervisor, nursery, keeper, and what the kernel keeps for them."""


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    deployment = manifest(DEPLOY / "kubernetes-sidecar.yaml")
    assert deployment["kind"] == "Deployment"
    template = deployment["spec"]["template"]
    assert template["metadata"]["labels"] == deployment["spec"]["selector"]["matchLabels"]
    pod: dict[str, Any] = template["spec"]
    return pod


@pytest.fixture
def sidecar(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["initContainers"]
    return dict(container)


@pytest.fixture
def engine(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    return dict(container)


@pytest.fixture
def flags(sidecar: dict[str, Any]) -> argparse.Namespace:
    """What `mmplane sidecar` makes of its arguments; it exits at a flag that it does not know."""
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return parser.parse_args(sidecar["args"])


def test_the_sidecar_starts_before_the_engine_and_ends_after_it(sidecar: dict[str, Any]) -> None:
    assert sidecar["restartPolicy"] == "Always"
    entry = re.search(r"^ENTRYPOINT (.*)$", (DEPLOY / "sidecar.Dockerfile").read_text(), re.MULTILINE)
    assert entry is not None
    assert json.loads(entry[1])[1:] == ["sidecar"]
    assert "command" not in sidecar


def test_both_reach_the_socket_by_one_small_volume(
    pod: dict[str, Any], sidecar: dict[str, Any], engine: dict[str, Any], flags: argparse.Namespace
) -> None:
    assert f"--socket={flags.socket}" in engine["command"]
    ours, theirs = mount(sidecar, flags.socket), mount(engine, flags.socket)
    assert (ours["name"], ours["mountPath"]) == (theirs["name"], theirs["mountPath"])
    assert not ours.get("readOnly")
    assert theirs["readOnly"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert set(volumes[ours["name"]]) == {"name", "emptyDir"}
    assert mount(sidecar, flags.model)["readOnly"]


def test_every_volume_is_there_and_none_is_shared_memory(pod: dict[str, Any]) -> None:
    mounts = [one for each in pod["initContainers"] + pod["containers"] for one in each["volumeMounts"]]
    assert {one["name"] for one in mounts} == {volume["name"] for volume in pod["volumes"]}
    assert not [one for one in mounts if one["mountPath"] == "/dev/shm"]
    assert not [volume for volume in pod["volumes"] if "medium" in volume.get("emptyDir", {})]


def test_nobody_is_root_and_the_socket_is_for_the_pods_group(
    pod: dict[str, Any], sidecar: dict[str, Any], engine: dict[str, Any], flags: argparse.Namespace
) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    assert str(pod["securityContext"]["fsGroup"]) == flags.socket_group
    for container in (sidecar, engine):
        context = container["securityContext"]
        assert context["runAsUser"] > 0
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
    assert f"USER {sidecar['securityContext']['runAsUser']}\n" in (DEPLOY / "sidecar.Dockerfile").read_text()


def test_what_the_sidecar_writes_is_on_a_volume(sidecar: dict[str, Any]) -> None:
    environment = {one["name"]: one["value"] for one in sidecar["env"]}
    for name in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        assert not mount(sidecar, environment[name]).get("readOnly")


def test_memory_is_limited_where_it_is_reserved(sidecar: dict[str, Any], flags: argparse.Namespace) -> None:
    regions_bytes = flags.arena_bytes + flags.producers_bytes
    wanted_bytes = regions_bytes + flags.budget_bytes + flags.workers * WORKER_BYTES + REST_BYTES
    resources = sidecar["resources"]
    limit_bytes = amount(resources["limits"]["memory"])
    assert wanted_bytes <= limit_bytes < 1.25 * wanted_bytes
    assert resources["requests"]["memory"] == resources["limits"]["memory"], "it is reserved at the start"
    assert int(resources["requests"]["cpu"]) == flags.workers


def test_a_start_may_take_as_long_as_kernels_compile(sidecar: dict[str, Any]) -> None:
    probe = sidecar["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= START_SECONDS
