"""deploy/compose: every file that it mounts exists, its flags are the server's, Grafana finds Prometheus."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmplane.commands import serve

COMPOSE = Path(__file__).parents[3] / "deploy" / "compose"
STOP_SECONDS = 6.0


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"])


def mounts(service: dict[str, Any]) -> dict[str, Path]:
    """What lies where in the container, of files of ours."""
    pairs = [text.split(":")[:2] for text in service["volumes"] if text.startswith(".")]
    return {target: COMPOSE / source for source, target in pairs}


def test_the_server_is_built_and_started_from_what_there_is(services: dict[str, Any]) -> None:
    server = services["mmplane"]
    parser = argparse.ArgumentParser()
    serve.add_flags(parser)
    options = parser.parse_args(server["command"])
    assert (COMPOSE / server["build"]["context"] / server["build"]["dockerfile"]).is_file()
    assert f"127.0.0.1:8000:{options.port}" in server["ports"]
    assert options.api_key_file == f"/run/secrets/{server['secrets'][0]}"
    assert float(server["stop_grace_period"].removesuffix("s")) > options.drain_seconds + STOP_SECONDS


def test_nothing_is_reachable_from_other_machines(services: dict[str, Any]) -> None:
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service["ports"])


def test_what_is_mounted_exists_and_keys_are_not_committed(services: dict[str, Any]) -> None:
    for service in services.values():
        for path in mounts(service).values() if "volumes" in service else ():
            assert path.exists(), path
    files = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["secrets"]
    ignored = (COMPOSE / ".gitignore").read_text().split()
    assert sorted(Path(each["file"]).name for each in files.values()) == sorted(ignored)


def test_prometheus_scrapes_the_server_with_its_key_and_has_the_rules(services: dict[str, Any]) -> None:
    placed = mounts(services["prometheus"])
    settings = yaml.safe_load(placed["/etc/prometheus/prometheus.yml"].read_text())
    assert [f"/etc/prometheus/{name}" in placed for name in settings["rule_files"]] == [True]
    (job,) = settings["scrape_configs"]
    assert job["job_name"] == "mmplane", "what the alerts ask for"
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{services['prometheus']['secrets'][0]}"
    assert job["static_configs"] == [{"targets": ["mmplane:8000"]}]


def test_grafana_finds_prometheus_and_the_dashboard(services: dict[str, Any]) -> None:
    placed = mounts(services["grafana"])
    provisioning = placed["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "mmplane.yaml").read_text())["providers"]
    dashboard = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert dashboard in placed
    assert str(Path(dashboard).parent) == provider["options"]["path"]
