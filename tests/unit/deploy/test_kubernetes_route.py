"""deploy/kubernetes-route: flags exist, the router finds the servers and is found, its times and its memory fit.

The schemas are checked in test_schemas.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from manifests import BASE, DEPLOY, amount, manifest, mount, parsed, patched

from mmplane.commands import route, serve
from mmplane.config import MIB
from mmplane.route.configuration import HEAD_BYTES
from mmplane.route.replica import Replica

FOLDER = DEPLOY / "kubernetes-route"
KUSTOMIZATION = manifest(FOLDER / "kustomization.yaml")
ROUTER = manifest(FOLDER / "deployment.yaml")
POD = ROUTER["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
FLAGS = parsed(route, CONTAINER["args"])
SERVERS = manifest(BASE / "deployment.yaml")
REST_BYTES = 128 * MIB
"""Python and HAProxy without connections."""


def test_every_file_of_the_folder_is_applied() -> None:
    own = [resource for resource in KUSTOMIZATION["resources"] if resource != "../kubernetes"]
    assert sorted([*own, "kustomization.yaml"]) == sorted(path.name for path in FOLDER.iterdir())


def test_the_router_finds_the_servers() -> None:
    found = Replica.of(FLAGS.replica_dns)
    service = manifest(FOLDER / "replicas.yaml")
    (port,) = service["spec"]["ports"]
    assert (found.host, found.port) == (service["metadata"]["name"], port["port"])
    assert service["spec"]["clusterIP"] == "None", "DNS has the address of each server"
    assert service["spec"]["selector"] == SERVERS["spec"]["template"]["metadata"]["labels"]
    (container,) = SERVERS["spec"]["template"]["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports[port["targetPort"]] == port["port"], "without a cluster IP, ports are not mapped"
    assert "/ready" in parsed(serve, container["args"]).open_route, "the router has no key"


def test_clients_and_probes_find_the_router() -> None:
    labels = ROUTER["spec"]["template"]["metadata"]["labels"]
    assert labels == ROUTER["spec"]["selector"]["matchLabels"]
    assert labels != SERVERS["spec"]["template"]["metadata"]["labels"]
    service = manifest(FOLDER / "service.yaml")["spec"]
    assert service["selector"] == labels
    (port,) = CONTAINER["ports"]
    assert port["containerPort"] == FLAGS.port
    assert [each["targetPort"] for each in service["ports"]] == [port["name"]]
    assert CONTAINER["readinessProbe"]["httpGet"] == {"path": "/ready", "port": port["name"]}


def test_servers_trust_the_router() -> None:
    (patch,) = KUSTOMIZATION["patches"]
    servers = manifest(BASE / "deployment.yaml")
    assert patch["target"] == {"kind": servers["kind"], "name": servers["metadata"]["name"]}
    for operation in yaml.safe_load(patch["patch"]):
        patched(servers, operation)
    assert servers["spec"]["replicas"] > 1
    (container,) = servers["spec"]["template"]["spec"]["containers"]
    assert parsed(serve, container["args"]).trusted_proxy == ["10.0.0.0/8"]


def test_answers_may_end_before_the_pod_is_killed() -> None:
    hook_seconds = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["terminationGracePeriodSeconds"] > hook_seconds + FLAGS.drain_seconds


def test_memory_is_limited() -> None:
    wanted_bytes = FLAGS.connections_max * 2 * HEAD_BYTES + REST_BYTES
    resources = CONTAINER["resources"]
    assert wanted_bytes <= amount(resources["limits"]["memory"]) < 1.25 * wanted_bytes
    assert resources["requests"]["memory"] == resources["limits"]["memory"]


def test_nobody_is_root_and_what_is_written_is_on_a_volume() -> None:
    base = SERVERS["spec"]["template"]["spec"]
    assert POD["securityContext"] == base["securityContext"]
    assert CONTAINER["securityContext"] == base["containers"][0]["securityContext"]
    volume = mount(CONTAINER, FLAGS.folder)
    assert Path(FLAGS.folder) != Path(volume["mountPath"]), "the router makes its folder, which it must own"
    assert [volume["name"]] == [each["name"] for each in POD["volumes"]]


def test_the_image_has_what_is_started() -> None:
    image = (DEPLOY / "Dockerfile").read_text()
    assert CONTAINER["image"] == base_image()
    assert CONTAINER["command"][0] in re.findall(r'ENTRYPOINT \["(\S+)"', image)
    (extras,) = re.findall(r"/source\[([\w,]+)\]", image)
    assert "route" in extras.split(","), "HAProxy"


def base_image() -> str:
    return str(SERVERS["spec"]["template"]["spec"]["containers"][0]["image"])
