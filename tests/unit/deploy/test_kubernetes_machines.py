"""deploy/kubernetes-machines: flags exist, memory is accounted, machines find the server, no more come than may join.

The schemas are checked in test_schemas.py.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from manifests import BASE, DEPLOY, WORKER_BYTES, amount, manifest, mount, parsed, patched

from mmplane.commands import serve, worker
from mmplane.config import MIB

MACHINES = DEPLOY / "kubernetes-machines"
REST_BYTES = 512 * MIB
"""Supervisor, nursery, outpost, and what the kernel keeps for them."""
KUSTOMIZATION = manifest(MACHINES / "kustomization.yaml")
MACHINE = manifest(MACHINES / "deployment.yaml")
POD = MACHINE["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


@pytest.fixture(scope="module")
def server() -> dict[str, Any]:
    """The pod of ../kubernetes as these files change it."""
    deployment = manifest(BASE / "deployment.yaml")
    (patch,) = KUSTOMIZATION["patches"]
    assert patch["target"] == {"kind": deployment["kind"], "name": deployment["metadata"]["name"]}
    for operation in yaml.safe_load(patch["patch"]):
        patched(deployment, operation)
    return dict(deployment["spec"]["template"])


def test_every_file_of_the_folder_is_applied() -> None:
    own = [resource for resource in KUSTOMIZATION["resources"] if resource != "../kubernetes"]
    assert sorted([*own, "kustomization.yaml"]) == sorted(path.name for path in MACHINES.iterdir())


def test_machines_find_the_server_and_have_its_key(server: dict[str, Any]) -> None:
    (container,) = server["spec"]["containers"]
    theirs, ours = parsed(serve, container["args"]), parsed(worker, CONTAINER["args"])
    service = manifest(MACHINES / "service.yaml")
    (port,) = service["spec"]["ports"]
    assert ours.join == f"{service['metadata']['name']}:{port['port']}"
    assert service["spec"]["selector"] == server["metadata"]["labels"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports[port["targetPort"]] == theirs.join_port
    for pod, taken, flags in ((server["spec"], container, theirs), (POD, CONTAINER, ours)):
        volume = {each["name"]: each for each in pod["volumes"]}[mount(taken, flags.cluster_key_file)["name"]]
        assert volume["secret"] == {"secretName": "mmplane-cluster", "defaultMode": 0o440}


def test_no_more_machines_come_than_may_join(server: dict[str, Any]) -> None:
    autoscaler = manifest(MACHINES / "horizontalpodautoscaler.yaml")["spec"]
    (container,) = server["spec"]["containers"]
    assert autoscaler["maxReplicas"] == parsed(serve, container["args"]).join_max
    assert autoscaler["scaleTargetRef"]["name"] == MACHINE["metadata"]["name"]
    assert "replicas" not in MACHINE["spec"], "the autoscaler's alone"
    assert MACHINE["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_memory_is_limited_where_it_is_reserved(server: dict[str, Any]) -> None:
    flags = parsed(worker, CONTAINER["args"])
    wanted_bytes = int(flags.arena_bytes) + int(flags.budget_bytes) + int(flags.workers) * WORKER_BYTES + REST_BYTES
    resources = CONTAINER["resources"]
    assert wanted_bytes <= amount(resources["limits"]["memory"]) < 1.25 * wanted_bytes
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert int(resources["requests"]["cpu"]) == int(flags.workers)
    alone = manifest(BASE / "deployment.yaml")["spec"]["template"]["spec"]["containers"][0]
    (container,) = server["spec"]["containers"]
    more_bytes = int(parsed(serve, container["args"]).arena_bytes) - int(parsed(serve, alone["args"]).arena_bytes)
    memory = [amount(each["resources"]["limits"]["memory"]) for each in (container, alone)]
    assert memory[0] - memory[1] == more_bytes


def test_nobody_is_root_and_what_is_written_is_on_a_volume() -> None:
    base = manifest(BASE / "deployment.yaml")["spec"]["template"]["spec"]
    assert POD["securityContext"] == base["securityContext"]
    (copy,) = POD["initContainers"]
    (theirs,) = base["initContainers"]
    assert copy == theirs
    assert CONTAINER["securityContext"] == base["containers"][0]["securityContext"]
    mounts = [one for each in (CONTAINER, copy) for one in each["volumeMounts"]]
    assert {one["name"] for one in mounts} == {volume["name"] for volume in POD["volumes"]}
