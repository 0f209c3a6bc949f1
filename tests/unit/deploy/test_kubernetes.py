"""deploy/kubernetes: the server's flags exist, its memory is accounted, its times fit together, nobody is root.

The cluster's own schemas are checked in test_schemas.py.
"""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

import pytest
import yaml
from manifests import BASE, DEPLOY, WORKER_BYTES, amount, manifest, mount

from mmplane.commands import serve
from mmplane.config import MIB

STOP_SECONDS = 6.0
"""What a server takes beyond `--drain-seconds`, at most."""
RANK_BYTES = 512 * MIB
"""A rank with torch and transformers, without weights and cache."""
REST_BYTES = 512 * MIB
"""Supervisor, nursery, front end, parser, and what the kernel keeps for them."""


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    deployment = manifest(BASE / "deployment.yaml")
    template = deployment["spec"]["template"]
    assert template["metadata"]["labels"] == deployment["spec"]["selector"]["matchLabels"]
    return dict(template["spec"])


@pytest.fixture(scope="module")
def server(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    return dict(container)


@pytest.fixture(scope="module")
def flags(server: dict[str, Any]) -> argparse.Namespace:
    """What `mmplane serve` makes of its arguments; it exits at a flag that it does not know."""
    parser = argparse.ArgumentParser()
    serve.add_flags(parser)
    return parser.parse_args(server["args"])


def test_every_file_of_the_folder_is_applied() -> None:
    resources = manifest(BASE / "kustomization.yaml")["resources"]
    assert sorted([*resources, "kustomization.yaml"]) == sorted(path.name for path in BASE.iterdir())


def test_the_service_and_the_monitor_find_the_pods(server: dict[str, Any], flags: argparse.Namespace) -> None:
    labels = manifest(BASE / "deployment.yaml")["spec"]["template"]["metadata"]["labels"]
    (port,) = server["ports"]
    assert port["containerPort"] == flags.port
    service = manifest(BASE / "service.yaml")["spec"]
    assert service["selector"] == labels
    assert [each["targetPort"] for each in service["ports"]] == [port["name"]]
    monitor = manifest(BASE / "podmonitor.yaml")["spec"]
    assert monitor["selector"]["matchLabels"] == labels
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "mmplane"}], "what the alerts ask for"


def test_requests_may_finish_before_the_pod_is_killed(
    pod: dict[str, Any], server: dict[str, Any], flags: argparse.Namespace
) -> None:
    hook_seconds = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > hook_seconds + flags.drain_seconds + STOP_SECONDS


def test_memory_is_limited_where_it_is_reserved(server: dict[str, Any], flags: argparse.Namespace) -> None:
    ranks_bytes = flags.tp * (flags.kv_bytes + RANK_BYTES)
    shared_bytes = flags.arena_bytes + flags.budget_bytes
    wanted_bytes = shared_bytes + ranks_bytes + flags.workers * WORKER_BYTES + REST_BYTES
    resources = server["resources"]
    assert wanted_bytes <= amount(resources["limits"]["memory"]) < 1.25 * wanted_bytes
    assert resources["requests"]["memory"] == resources["limits"]["memory"], "the arena is reserved at the start"
    assert int(resources["requests"]["cpu"]) == flags.tp + flags.workers


def test_probes_ask_whether_requests_are_answered(server: dict[str, Any], flags: argparse.Namespace) -> None:
    assert "livenessProbe" not in server, "the supervisor replaces what ends or stalls"
    for name in ("startupProbe", "readinessProbe"):
        probe = server[name]
        assert probe["httpGet"]["path"] in flags.open_route, "the kubelet has no key"
        assert probe["httpGet"]["port"] in [port["name"] for port in server["ports"]]
    assert server["startupProbe"]["periodSeconds"] * server["startupProbe"]["failureThreshold"] >= 600


def test_nobody_is_root_and_what_is_written_is_on_a_volume(pod: dict[str, Any], server: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    image = (DEPLOY / "Dockerfile").read_text()
    assert f"USER {pod['securityContext']['runAsUser']}\n" in image
    for container in (server, *pod["initContainers"]):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
    (environment,) = re.findall(r"^ENV (.*)$", image, re.MULTILINE)
    variables = dict(one.split("=") for one in environment.split())
    for folder in (f"{variables['XDG_CACHE_HOME']}/mmplane", variables["NUMBA_CACHE_DIR"]):
        assert mount(server, folder)["name"] == "cache"
    mounts = [one for each in (server, *pod["initContainers"]) for one in each["volumeMounts"]]
    assert {one["name"] for one in mounts} == {volume["name"] for volume in pod["volumes"]}
    assert not [one for one in mounts if one["mountPath"] == "/dev/shm"]


def test_the_volume_gets_what_the_image_has(pod: dict[str, Any], server: dict[str, Any]) -> None:
    (copy,) = pod["initContainers"]
    assert copy["image"] == server["image"]
    *_, source, target = copy["command"]
    assert mount(server, source.removesuffix("/."))["name"] == mount(copy, target)["name"] == "cache"
    made = re.findall(r"mmplane\.models\.tiny (\S+)", (DEPLOY / "Dockerfile").read_text())
    assert made == [source.removesuffix("/.")]


def test_the_rules_of_the_operator_are_those_of_prometheus() -> None:
    assert manifest(BASE / "prometheusrule.yaml")["spec"] == yaml.safe_load((DEPLOY / "alerts.yml").read_text())


def test_the_secret_has_what_is_read_of_it(server: dict[str, Any]) -> None:
    described = (BASE / "kustomization.yaml").read_text()
    (command,) = re.findall(r"kubectl create secret generic (.*)", described)
    name, *entries = command.split()
    keys = {re.findall(r"--from-\w+=([\w-]+)=", entry)[0] for entry in entries}
    assert keys == {"operator", "api-keys"}
    credentials = manifest(BASE / "podmonitor.yaml")["spec"]["podMetricsEndpoints"][0]["authorization"]["credentials"]
    assert credentials == {"name": name, "key": "operator"}
    paths = set(re.findall(r"/run/secrets/mmplane/([\w-]+)", json.dumps(server)))
    assert paths | {credentials["key"]} == keys
